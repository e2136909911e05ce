"""`RunStore`: one SQLite file that holds a run's plan and its samples, each committed as soon as it finishes.

The key of a sample is (setting, question, index), so that a second run of the same plan adds only what is missing.
Knows no engine.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from mull.analysis.records import Key, Sample
from mull.benchmarks import Question
from mull.errors import MullError
from mull.folders import locked
from mull.runs import checks
from mull.runs.database import Database, scores_from_json, scores_to_json
from mull.runs.growth import Growth, grow
from mull.runs.later_grades import LaterGrades
from mull.runs.plan import SweepPlan, differences
from mull.runs.settings import Route

DATABASE = "run.sqlite"
COLUMNS = [field.name for field in fields(Sample)]
TYPES = {
    "lam": "REAL",
    "index": "INTEGER",
    "seed": "INTEGER",
    "tokens": "INTEGER",
    "prompt_tokens": "INTEGER",
    "thought_tokens": "INTEGER",
    "correct": "INTEGER",
    "seconds": "REAL",
}
_QUOTED = ", ".join(f'"{name}"' for name in COLUMNS)
_TABLES = {"meta", "samples", "grades"}


class Pace(NamedTuple):
    """What all sessions of a run together have generated so far."""

    tokens: int
    seconds: float
    """Wall-clock seconds of sampling."""


class Wall(NamedTuple):
    """What the responses of one setting took when they were sampled by themselves."""

    seconds: float = 0.0
    """Wall-clock seconds of sampling, over all sessions."""
    responses: int = 0
    choosing: float = 0.0
    """Wall-clock seconds of choosing λ."""
    chosen: int = 0
    """Questions whose λ was chosen in that time."""

    def plus(self, more: Wall) -> Wall:
        """Both together."""
        return Wall(
            self.seconds + more.seconds,
            self.responses + more.responses,
            self.choosing + more.choosing,
            self.chosen + more.chosen,
        )

    @property
    def each(self) -> float:
        """Seconds per response. Every response pays for the choice of its λ, though those of one question share it."""
        return self.seconds / max(1, self.responses) + self.choosing / max(1, self.chosen)


class RunStore:
    """The samples of one run folder.

    Example:
        >>> with RunStore.open(Path("run")) as store:
        ...     samples = store.samples()
    """

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder = folder
        self._database = database
        self.later_grades = LaterGrades(database)
        self.grading: str | None = None
        """The later grading whose grades are read in place of the original ones."""

    @classmethod
    def open(cls, folder: Path, *, grading: str | None = None) -> RunStore:
        """Open an existing run for reading; `grading` names the later grades to read in place of the original ones.

        Raises:
            MullError: the folder holds no run or one of an earlier mull, its database is damaged, or it has no such
                grades.
        """
        path = folder / DATABASE
        if not path.is_file():
            raise MullError(f"{folder} holds no run (no {DATABASE})", "give the folder of `mull sweep --run`")
        store = cls(folder, Database.to_read(path))
        if not store._database.tables >= {"meta", "samples"}:
            raise MullError(f"{path} holds no run", "give the folder of `mull sweep --run`")
        store._refuse_earlier_version()
        store.grading = store.later_grades.find(grading) if grading is not None else None
        return store

    @classmethod
    @contextmanager
    def amend(cls, folder: Path) -> Iterator[RunStore]:
        """Open an existing run for adding grades; one process at a time.

        Raises:
            MullError: the folder holds no run or cannot be written, or another process is writing to it.
        """
        cls.open(folder).close()
        with locked(folder, _busy(folder)):
            store = cls(folder, Database.to_write(folder / DATABASE))
            with store:
                store.later_grades.create_table()
                yield store

    @classmethod
    @contextmanager
    def record(cls, folder: Path, plan: SweepPlan, provenance: dict[str, Any]) -> Iterator[RunStore]:
        """Open or create the run of `plan` for writing; one process at a time.

        Raises:
            MullError: the folder holds something else, or a run that cannot grow to this plan (`mull.runs.growth`; the
                message names the differences), or another process is writing to it.
        """
        cls.check_folder(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MullError(f"cannot make the run folder {folder}: {error.strerror}", "choose another folder") from None
        with locked(folder, _busy(folder)):
            store = cls(folder, Database.to_write(folder / DATABASE))
            with store:
                store._begin(plan, provenance)
                yield store

    @staticmethod
    def check_folder(folder: Path) -> None:
        """Raise `MullError` for a folder that is a file or holds something other than a run."""
        if folder.exists() and not folder.is_dir():
            raise MullError(f"the run folder {folder} is a file", "choose a folder")
        if folder.exists() and any(folder.iterdir()) and not (folder / DATABASE).is_file():
            raise MullError(f"the run folder {folder} holds something else", "choose a new folder")

    def __enter__(self) -> RunStore:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._database.close()

    @property
    def plan(self) -> dict[str, Any]:
        """The plan's record (see `SweepPlan.record`), with the grader whose grades are read."""
        record = self._meta("plan")
        if self.grading is not None:
            record["benchmark"]["grader"] = self.later_grades.gradings[self.grading].get("grader")
        return record

    @property
    def provenance(self) -> dict[str, Any]:
        """Names of the checkpoints, versions, machine and start of the run."""
        return self._meta("provenance")

    @property
    def questions(self) -> dict[str, dict[str, str]]:
        """Question id → its text, gold answer and stratum."""
        return self._meta("questions")

    @property
    def under_way(self) -> list[str] | None:
        """The settings of the race step that is not finished; empty between two steps; None if a sweep sampled last."""
        return self._noted("race")

    def note_race(self, under_way: Collection[str] | None) -> None:
        """Record what `under_way` returns, before the samples are added."""
        self._note("race", None if under_way is None else sorted(under_way))

    @property
    def pace(self) -> Pace | None:
        """Tokens and seconds of all sessions so far; None before the first has ended."""
        noted = self._noted("pace")
        return None if noted is None else Pace(*noted)

    def note_pace(self, tokens: int, seconds: float) -> None:
        """Record that a session generated `tokens` in `seconds`."""
        before = self.pace or Pace(0, 0.0)
        self._note("pace", Pace(before.tokens + tokens, before.seconds + seconds))

    @property
    def kernels(self) -> list[str]:
        """What decided the last bits of responses (`Ready.kernels`), in the order of sessions, each once."""
        return self._noted("kernels") or []

    def note_kernels(self, kernels: str) -> None:
        """Record what decides the last bits of the responses that follow."""
        if kernels not in self.kernels:
            self._note("kernels", [*self.kernels, kernels])

    @property
    def routes(self) -> dict[str, dict[str, Route]]:
        """Setting → question → the λ that was chosen for it, for settings that choose one for each question."""
        noted = self._noted("routes") or {}
        return {setting: {question: Route(*route) for question, route in own.items()} for setting, own in noted.items()}

    def note_routes(self, routes: Mapping[str, Mapping[str, Route]]) -> None:
        """Record what `routes` returns."""
        self._note("routes", routes)

    @property
    def walls(self) -> dict[str, Wall]:
        """Setting → what its responses took, for runs that sample one setting at a time."""
        walls, choices = self._noted("walls") or {}, self._noted("choices") or {}
        both = dict.fromkeys([*walls, *choices])
        return {setting: Wall(*walls.get(setting, (0.0, 0)), *choices.get(setting, (0.0, 0))) for setting in both}

    def note_wall(self, setting: str, more: Wall) -> None:
        """Record what `more` responses of a setting, or choices of their λ, took."""
        walls = self.walls
        walls[setting] = walls.get(setting, Wall()).plus(more)
        self._note("walls", {name: wall[:2] for name, wall in walls.items()})
        self._note("choices", {name: wall[2:] for name, wall in walls.items() if wall.chosen})

    @property
    def signals(self) -> dict[str, dict[str, list[Any]]]:
        """Question → end → its forced answer: text, logprobs, entropy, tokens generated and read (`mull.dynamic`)."""
        return self._noted("signals") or {}

    def note_signals(self, signals: Mapping[str, Mapping[str, list[Any]]]) -> None:
        """Record what `signals` returns."""
        self._note("signals", signals)

    def done(self, setting: str) -> set[tuple[str, int]]:
        """(question, index) of the recorded samples of `setting`."""
        return set(self._database.read('SELECT question, "index" FROM samples WHERE setting = ?', setting))

    def add(self, sample: Sample) -> None:
        """Record one sample, committed when this returns; a sample with the same key stays as it is."""
        marks = ", ".join("?" * len(COLUMNS))
        values = [getattr(sample, name) for name in COLUMNS]
        values[COLUMNS.index("scores")] = scores_to_json(sample.scores)
        with self._database.writing() as connection:
            connection.execute(f"INSERT OR IGNORE INTO samples ({_QUOTED}) VALUES ({marks})", values)

    def tallies(self) -> dict[str, tuple[int, int]]:
        """Setting → how many samples of it are recorded, and their tokens."""
        sound = "typeof(setting) = 'text' AND typeof(tokens) = 'integer' AND tokens >= 0"
        query = f"SELECT setting, COUNT(*), SUM(tokens), MIN({sound}) FROM samples GROUP BY setting"
        found = {}
        for setting, count, tokens, is_sound in self._database.read(query):
            if not is_sound:
                raise self._database.damaged(f"a value of the samples of setting {setting!r} is wrong")
            found[setting] = (count, tokens)
        return found

    def by_benchmark(self) -> dict[str, int]:
        """Benchmark → how many samples of it are recorded."""
        return dict(self._database.read("SELECT benchmark, COUNT(*) FROM samples GROUP BY benchmark"))

    def count(self) -> int:
        """The number of recorded samples."""
        return next(self._database.read("SELECT COUNT(*) FROM samples"))[0]

    def samples(self, *, texts: bool = True) -> list[Sample]:
        """All samples, by setting, question and index; without `texts` their text is empty, which saves memory.

        Raises:
            MullError: the run was opened with later grades, and some samples have none.
        """
        return list(self.each(texts=texts))

    def each(self, *, texts: bool = True) -> Iterator[Sample]:
        """The samples that `samples` lists, one at a time, so that not all texts are in memory at once."""
        columns = ", ".join(f'"{name}"' if texts or name != "text" else "''" for name in COLUMNS)
        columns += f", ({checks.SOUND})"
        # One query per setting, because sorting all rows by λ would hold all texts in memory or write them to disk.
        settings = self._database.read("SELECT DISTINCT lam, setting FROM samples ORDER BY lam IS NULL, lam, setting")
        query = f'SELECT {columns} FROM samples WHERE setting = ? ORDER BY question, "index"'
        later = self.later_grades.of(self.grading) if self.grading is not None else {}
        for _, setting in list(settings):
            for *row, sound in self._database.read(query, setting):
                values = dict(zip(COLUMNS, row, strict=True))
                try:
                    if not sound:
                        raise ValueError
                    values |= {"correct": bool(values["correct"]), "scores": scores_from_json(values["scores"])}
                except (ValueError, RecursionError):
                    which = f"setting {setting!r}, question {values['question']!r}, index {values['index']!r}"
                    raise self._database.damaged(f"a value of the sample of {which} is wrong") from None
                sample = Sample(**values)
                grade = later.get(sample.key)
                if grade is not None:
                    sample = replace(sample, answer=grade.answer, correct=grade.correct, scores=grade.scores)
                yield sample

    def text(self, key: Key) -> str:
        """The response text of one sample. Raises KeyError if there is none."""
        query = 'SELECT text FROM samples WHERE setting = ? AND question = ? AND "index" = ?'
        row = self._database.first(query, *key)
        if row is None:
            raise KeyError(key)
        return row[0]

    def _begin(self, plan: SweepPlan, provenance: dict[str, Any]) -> None:
        if self._database.tables - _TABLES:
            raise MullError(f"{self.folder / DATABASE} is another program's database", "choose a new folder")
        # The text is the last column: SQLite then reads the others without reading a long text.
        ordered = sorted(COLUMNS, key=lambda name: name == "text")
        columns = ", ".join(f'"{name}" {TYPES.get(name, "TEXT")}' for name in ordered)
        key = 'PRIMARY KEY (setting, question, "index")'
        with self._database.writing() as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT)")
            connection.execute(f"CREATE TABLE IF NOT EXISTS samples ({columns}, {key})")
            if connection.execute("SELECT 1 FROM meta WHERE key = 'plan'").fetchone() is None:
                meta = {"plan": plan.record, "provenance": provenance, "questions": _questions(plan)}
                rows = [(key, json.dumps(value)) for key, value in meta.items()]
                connection.executemany("INSERT INTO meta VALUES (?, ?)", rows)
        self._refuse_earlier_version()
        growth = self.grown(plan, provenance)
        if growth.record != self.plan:
            rows = [(json.dumps(growth.record), "plan"), (json.dumps(growth.questions), "questions")]
            with self._database.writing() as connection:
                connection.executemany("UPDATE meta SET value = ? WHERE key = ?", rows)

    def _refuse_earlier_version(self) -> None:
        columns = {row[1] for row in self._database.read("PRAGMA table_info(samples)")}
        if not columns >= set(COLUMNS) or "study" not in self._meta("plan"):
            raise MullError(f"{self.folder} was recorded by an earlier mull", "sample it again, into a new folder")

    def grown(self, plan: SweepPlan, provenance: dict[str, Any]) -> Growth:
        """What this run would hold after going on with `plan`; changes nothing. Raises `MullError` if it cannot."""
        growth = grow(self.plan, json.loads(json.dumps(plan.record)), self.questions, _questions(plan))
        changed = differences(growth.before, growth.record, names=(self.provenance, provenance))
        if changed:
            raise MullError(
                f"{self.folder} holds a run of another plan ({'; '.join(changed)})",
                "go on with the old settings, or choose a new folder; λ, k and the number of questions may grow",
            )
        return growth

    def _meta(self, key: str) -> Any:
        value = self._noted(key)
        if value is None:
            raise MullError(f"{self.folder / DATABASE} holds no plan", "sweep into a new folder")
        return value

    def _noted(self, key: str) -> Any:
        row = self._database.first("SELECT value FROM meta WHERE key = ?", key)
        if row is None:
            return None
        try:
            value = json.loads(row[0])
        except (ValueError, TypeError, RecursionError):
            value = None
        if not checks.fits(key, value):
            raise self._database.damaged(f"its {key} cannot be read")
        return value

    def _note(self, key: str, value: Any) -> None:
        """Record `value` as JSON; None removes what was recorded."""
        with self._database.writing() as connection:
            if value is None:
                connection.execute("DELETE FROM meta WHERE key = ?", (key,))
            else:
                connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))


def _busy(folder: Path) -> MullError:
    return MullError(f"another process is writing to {folder}", "wait for it, or choose another folder")


def _questions(plan: SweepPlan) -> dict[str, dict[str, str]]:
    def about(question: Question) -> dict[str, str]:
        own = {"benchmark": question.benchmark} if question.benchmark else {}
        return {"text": question.text, "gold": question.gold, "stratum": question.stratum, **own}

    return {question.id: about(question) for question in plan.benchmark.questions()}
