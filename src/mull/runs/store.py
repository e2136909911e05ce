"""`RunStore`: one SQLite file that holds a run's plan and every sample, committed as it finishes.

Keyed by (setting, question, index), so that a re-run continues and never doubles. Knows no engine.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from mull.analysis.records import Sample
from mull.errors import MullError
from mull.folders import locked
from mull.runs.database import connect, connect_to_read
from mull.runs.growth import Growth, grow
from mull.runs.plan import SweepPlan, differences

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
_LATER = {field.name for field in fields(Sample) if (field.default, field.default_factory) != (MISSING, MISSING)}
"""Columns that runs of earlier versions may lack."""
_TABLES = {"meta", "samples", "grades"}

Key = tuple[str, str, int]
"""Setting, question and index of a sample."""


class Pace(NamedTuple):
    """What the sessions of a run have generated so far."""

    tokens: int
    seconds: float
    """Wall-clock seconds of sampling."""


class Regrade(NamedTuple):
    """A later grade of one sample."""

    key: Key
    answer: str
    correct: bool
    scores: Mapping[str, float]


class RunStore:
    """The samples of one run folder.

    Example:
        >>> with RunStore.open(Path("run")) as store:
        ...     samples = store.samples()
    """

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        self.folder = folder
        self._connection = connection
        self.grading: str | None = None
        """The later grading whose grades are read in place of the original ones."""

    @classmethod
    def open(cls, folder: Path, *, grading: str | None = None) -> RunStore:
        """Open an existing run for reading; `grading` names the later grades to read in place of the original ones.

        Raises:
            MullError: the folder holds no run, or its database is damaged, or it has no such grades.
        """
        path = folder / DATABASE
        if not path.is_file():
            raise MullError(f"{folder} holds no run (no {DATABASE})", "give the folder of `mull sweep --run`")
        store = cls(folder, connect_to_read(path))
        if not store._tables() >= {"meta", "samples"}:
            raise MullError(f"{path} holds no run", "give the folder of `mull sweep --run`")
        store.grading = store.find_grading(grading) if grading is not None else None
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
            store = cls(folder, connect(folder / DATABASE))
            with store:
                store._begin_grades()
                yield store

    @classmethod
    @contextmanager
    def record(cls, folder: Path, plan: SweepPlan, provenance: dict[str, Any]) -> Iterator[RunStore]:
        """Open or create the run of `plan` for writing; one process at a time.

        Raises:
            MullError: the folder holds a run of another plan that it cannot grow by (`mull.runs.growth`; the
                differences are named) or something else, or another process is writing to it.
        """
        cls.check_folder(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, _busy(folder)):
            store = cls(folder, connect(folder / DATABASE))
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
        self._connection.close()

    @property
    def plan(self) -> dict[str, Any]:
        """The plan's record (see `SweepPlan.record`), with the grader whose grades are read.

        Raises `MullError` for a record without a study, as earlier versions wrote it.
        """
        record = json.loads(self._meta("plan"))
        if "study" not in record:
            raise MullError(f"{self.folder} was recorded by an earlier mull", "sample it again, into a new folder")
        if self.grading is not None:
            record["benchmark"]["grader"] = self.gradings[self.grading].get("grader")
        return record

    @property
    def provenance(self) -> dict[str, Any]:
        """Names of the checkpoints, versions, machine and start of the run."""
        return json.loads(self._meta("provenance"))

    @property
    def questions(self) -> dict[str, dict[str, str]]:
        """Question id → text, gold and stratum."""
        return json.loads(self._meta("questions"))

    @property
    def under_way(self) -> list[str] | None:
        """The settings of the step that a race is sampling or was stopped in; None where a sweep sampled last."""
        row = next(self._read("SELECT value FROM meta WHERE key = 'race'"), None)
        return None if row is None else json.loads(row[0])

    def note_race(self, under_way: Collection[str] | None) -> None:
        """Record the settings of a race's present step, none between two steps; None = a sweep goes on here."""
        with self._writing():
            if under_way is None:
                self._connection.execute("DELETE FROM meta WHERE key = 'race'")
            else:
                row = ("race", json.dumps(sorted(under_way)))
                self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", row)

    @property
    def pace(self) -> Pace | None:
        """What the sessions so far have generated and how long it took them; None before the first has ended."""
        row = next(self._read("SELECT value FROM meta WHERE key = 'pace'"), None)
        return None if row is None else Pace(*json.loads(row[0]))

    def note_pace(self, tokens: int, seconds: float) -> None:
        """Record that a session generated `tokens` in `seconds`."""
        before = self.pace or Pace(0, 0.0)
        row = ("pace", json.dumps(Pace(before.tokens + tokens, before.seconds + seconds)))
        with self._writing():
            self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", row)

    def done(self, setting: str) -> set[tuple[str, int]]:
        """(question, index) of the samples on record."""
        return set(self._read('SELECT question, "index" FROM samples WHERE setting = ?', setting))

    def add(self, sample: Sample) -> None:
        """Put one sample on record, at once and for good."""
        marks = ", ".join("?" * len(COLUMNS))
        values = [getattr(sample, name) for name in COLUMNS]
        values[COLUMNS.index("scores")] = scores_to_json(sample.scores)
        with self._writing():
            self._connection.execute(f"INSERT OR IGNORE INTO samples ({_QUOTED}) VALUES ({marks})", values)

    def count(self) -> int:
        """How many samples are on record."""
        return next(self._read("SELECT COUNT(*) FROM samples"))[0]

    def samples(self, *, texts: bool = True) -> list[Sample]:
        """All samples, by setting, question and index; without `texts` their text is empty, which saves memory.

        Raises:
            MullError: the run was opened with later grades, and some samples have none.
        """
        return list(self.each(texts=texts))

    def each(self, *, texts: bool = True) -> Iterator[Sample]:
        """What `samples` lists, one at a time: the memory for texts does not grow with the run."""
        there = self._columns()
        names = [name for name in COLUMNS if name in there or name not in _LATER]
        columns = ", ".join(f'"{name}"' if texts or name != "text" else "''" for name in names)
        # By λ without a sort of whole rows: a sort would hold, or write to disk, all texts.
        settings = self._read("SELECT DISTINCT lam, setting FROM samples ORDER BY lam IS NULL, lam, setting")
        query = f'SELECT {columns} FROM samples WHERE setting = ? ORDER BY question, "index"'
        regraded = self.regraded() if self.grading is not None else {}
        for _, setting in list(settings):
            for row in self._read(query, setting):
                values = dict(zip(names, row, strict=True))
                scores = {"scores": json.loads(values["scores"])} if values.get("scores") else {"scores": {}}
                sample = Sample(**{**values, **scores, "correct": bool(values["correct"])})
                grade = regraded.get(_key(sample))
                if grade is not None:
                    sample = replace(sample, answer=grade.answer, correct=grade.correct, scores=grade.scores)
                yield sample

    def text(self, key: Key) -> str:
        """The response of one sample. Raises KeyError where there is none."""
        row = next(
            self._read('SELECT text FROM samples WHERE setting = ? AND question = ? AND "index" = ?', *key), None
        )
        if row is None:
            raise KeyError(key)
        return row[0]

    @property
    def gradings(self) -> dict[str, dict[str, Any]]:
        """The later gradings of the run: name → what describes it (grader, versions, time)."""
        rows = self._read("SELECT key, value FROM meta WHERE key LIKE 'grading:%' ORDER BY rowid")
        return {key.partition(":")[2]: json.loads(value) for key, value in rows}

    def find_grading(self, name: str) -> str:
        """The full name of the grading called `name`, which may be the grader's name alone.

        Raises:
            MullError: there is none, or several.
        """
        known = self.gradings
        found = [key for key in known if name in (key, known[key].get("grader", {}).get("name"))]
        if len(found) != 1:
            what = "several gradings" if found else "no grading"
            remedy = f"give one of {', '.join(found or known)}" if known else f"`mull regrade {self.folder}` makes one"
            raise MullError(f"{self.folder} has {what} {name!r}", remedy)
        return found[0]

    def graded(self, grading: str) -> set[Key]:
        """The samples that have a grade of `grading`."""
        return set(self._read('SELECT setting, question, "index" FROM grades WHERE grading = ?', grading))

    def add_grades(self, grading: str, record: Mapping[str, Any], grades: Collection[Regrade]) -> None:
        """Put later grades on record beside the original ones; `record` describes the grading."""
        rows = [(grading, *grade.key, grade.answer, grade.correct, scores_to_json(grade.scores)) for grade in grades]
        with self._writing():
            known = (f"grading:{grading}", json.dumps(record))
            self._connection.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", known)
            self._connection.executemany("INSERT OR REPLACE INTO grades VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def regrades(self, grading: str) -> dict[Key, Regrade]:
        """All grades of `grading`."""
        query = 'SELECT setting, question, "index", answer, correct, scores FROM grades WHERE grading = ?'
        found = {}
        for setting, question, index, answer, correct, scores in self._read(query, grading):
            key = (setting, question, index)
            found[key] = Regrade(key, answer, bool(correct), json.loads(scores or "{}"))
        return found

    def regraded(self) -> dict[Key, Regrade]:
        """The later grades that are read. Raises MullError where a sample has none."""
        assert self.grading is not None
        grades = self.regrades(self.grading)
        missing = sum(key not in grades for key in self._read('SELECT setting, question, "index" FROM samples'))
        if missing:
            grader = self.gradings[self.grading].get("grader", {}).get("name", self.grading)
            raise MullError(
                f"{missing:,} of {self.count():,} responses have no grade of {self.grading}",
                f"`mull regrade {self.folder} --grader {grader}` goes on",
            )
        return grades

    def _columns(self) -> set[str]:
        return {row[1] for row in self._read("PRAGMA table_info(samples)")}

    def _begin_grades(self) -> None:
        columns = (
            'grading TEXT, setting TEXT, question TEXT, "index" INTEGER, answer TEXT, correct INTEGER, scores TEXT'
        )
        key = 'PRIMARY KEY (grading, setting, question, "index")'
        with self._writing("work on a copy"):
            self._connection.execute(f"CREATE TABLE IF NOT EXISTS grades ({columns}, {key})")

    def _tables(self) -> set[str]:
        return {name for (name,) in self._read("SELECT name FROM sqlite_schema WHERE type = 'table'")}

    def _begin(self, plan: SweepPlan, provenance: dict[str, Any]) -> None:
        # The text last: where it is long, reading what stands before it leaves it alone.
        ordered = sorted(COLUMNS, key=lambda name: name == "text")
        columns = ", ".join(f'"{name}" {TYPES.get(name, "TEXT")}' for name in ordered)
        if self._tables() - _TABLES:
            raise MullError(f"{self.folder / DATABASE} is another program's database", "choose a new folder")
        key = 'PRIMARY KEY (setting, question, "index")'
        with self._connection:
            self._connection.execute("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT)")
            self._connection.execute(f"CREATE TABLE IF NOT EXISTS samples ({columns}, {key})")
            for name in _LATER - self._columns():
                self._connection.execute(f'ALTER TABLE samples ADD COLUMN "{name}" {TYPES.get(name, "TEXT")}')
            if self._connection.execute("SELECT 1 FROM meta WHERE key = 'plan'").fetchone() is None:
                meta = {"plan": plan.record, "provenance": provenance, "questions": _questions(plan)}
                rows = [(key, json.dumps(value)) for key, value in meta.items()]
                self._connection.executemany("INSERT INTO meta VALUES (?, ?)", rows)
        growth = self.grown(plan, provenance)
        if growth.record != self.plan:
            rows = [(json.dumps(growth.record), "plan"), (json.dumps(growth.questions), "questions")]
            with self._writing():
                self._connection.executemany("UPDATE meta SET value = ? WHERE key = ?", rows)

    def grown(self, plan: SweepPlan, provenance: dict[str, Any]) -> Growth:
        """This run as it would go on with `plan`; changes nothing. Raises `MullError` where it cannot."""
        growth = grow(self.plan, json.loads(json.dumps(plan.record)), self.questions, _questions(plan))
        changed = differences(growth.before, growth.record, names=(self.provenance, provenance))
        if changed:
            raise MullError(
                f"{self.folder} holds a run of another plan ({'; '.join(changed)})",
                "go on with the old settings, or choose a new folder; λ, k and the number of questions may grow",
            )
        return growth

    @contextmanager
    def _writing(self, remedy: str = "mend that and run it again") -> Iterator[None]:
        """One transaction; what the database refuses (a full disk, say) becomes a `MullError`."""
        try:
            with self._connection:
                yield
        except sqlite3.OperationalError as error:
            raise MullError(f"cannot write to {self.folder / DATABASE} ({error})", remedy) from None

    def _meta(self, key: str) -> str:
        row = next(self._read("SELECT value FROM meta WHERE key = ?", key), None)
        if row is None:
            raise MullError(f"{self.folder / DATABASE} holds no plan", "sweep into a new folder")
        return row[0]

    def _read(self, query: str, *values: str | int) -> Iterator[tuple]:
        try:
            yield from self._connection.execute(query, values)
        except sqlite3.DatabaseError as error:
            what = f"{self.folder / DATABASE} is damaged ({error})"
            raise MullError(what, "restore it, or sweep into a new folder") from None


def _busy(folder: Path) -> MullError:
    return MullError(f"another process is writing to {folder}", "wait for it, or choose another folder")


def _questions(plan: SweepPlan) -> dict[str, dict[str, str]]:
    return {q.id: {"text": q.text, "gold": q.gold, "stratum": q.stratum} for q in plan.benchmark.questions()}


def _key(sample: Sample) -> Key:
    return (sample.setting, sample.question, sample.index)


def scores_to_json(scores: Mapping[str, float]) -> str:
    return json.dumps(dict(scores)) if scores else ""
