"""`RunStore`: one SQLite file that holds a run's plan and every sample, committed as it finishes.

Keyed by (setting, question, index), so that a re-run continues and never doubles. Knows no engine.
"""

from __future__ import annotations

import fcntl
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from mull.errors import MullError
from mull.study.records import Sample
from mull.sweeps.plan import SweepPlan, differences

if TYPE_CHECKING:
    import polars

DATABASE = "run.sqlite"
_COLUMNS = [field.name for field in fields(Sample)]
_TYPES = {
    "lam": "REAL",
    "index": "INTEGER",
    "seed": "INTEGER",
    "tokens": "INTEGER",
    "correct": "INTEGER",
    "seconds": "REAL",
}
_QUOTED = ", ".join(f'"{name}"' for name in _COLUMNS)


class RunStore:
    """The samples of one run folder.

    Example:
        >>> with RunStore.open(Path("run")) as store:
        ...     samples = store.samples()
    """

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        self.folder = folder
        self._connection = connection

    @classmethod
    def open(cls, folder: Path) -> RunStore:
        """Open an existing run for reading.

        Raises:
            MullError: the folder holds no run, or its database is damaged.
        """
        path = folder / DATABASE
        if not path.is_file():
            raise MullError(f"{folder} holds no run (no {DATABASE})", "give the folder of `mull sweep --run`")
        store = cls(folder, _connect_to_read(path))
        if not store._tables() >= {"meta", "samples"}:
            raise MullError(f"{path} holds no run", "give the folder of `mull sweep --run`")
        return store

    @classmethod
    @contextmanager
    def record(cls, folder: Path, plan: SweepPlan, provenance: dict[str, Any]) -> Iterator[RunStore]:
        """Open or create the run of `plan` for writing; one process at a time.

        Raises:
            MullError: the folder holds a run of another plan (the differences are named) or something else, or
                another process is writing to it.
        """
        if folder.exists() and not folder.is_dir():
            raise MullError(f"the run folder {folder} is a file", "choose a folder")
        if folder.exists() and any(folder.iterdir()) and not (folder / DATABASE).is_file():
            raise MullError(f"the run folder {folder} holds something else", "choose a new folder")
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise MullError(
                    f"another process is writing to {folder}", "wait for it, or choose another folder"
                ) from None
            store = cls(folder, _connect(folder / DATABASE))
            with store:
                store._begin(plan, provenance)
                yield store

    def __enter__(self) -> RunStore:
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.close()

    @property
    def plan(self) -> dict[str, Any]:
        """The plan's record (see `SweepPlan.record`)."""
        return json.loads(self._meta("plan"))

    @property
    def provenance(self) -> dict[str, Any]:
        """Names of the checkpoints, versions, machine and start of the run."""
        return json.loads(self._meta("provenance"))

    @property
    def questions(self) -> dict[str, dict[str, str]]:
        """Question id → text, gold and stratum."""
        return json.loads(self._meta("questions"))

    def done(self, setting: str) -> set[tuple[str, int]]:
        """(question, index) of the samples on record."""
        return set(self._read('SELECT question, "index" FROM samples WHERE setting = ?', setting))

    def add(self, sample: Sample) -> None:
        """Put one sample on record, at once and for good."""
        marks = ", ".join("?" * len(_COLUMNS))
        try:
            with self._connection:
                self._connection.execute(f"INSERT OR IGNORE INTO samples ({_QUOTED}) VALUES ({marks})", astuple(sample))
        except sqlite3.OperationalError as error:  # a full disk, say
            raise MullError(
                f"cannot write to {self.folder / DATABASE} ({error})", "mend that and run it again"
            ) from None

    def count(self) -> int:
        """How many samples are on record."""
        return next(self._read("SELECT COUNT(*) FROM samples"))[0]

    def samples(self, *, texts: bool = True) -> list[Sample]:
        """All samples, by setting, question and index; without `texts` their text is empty, which saves memory."""
        columns = _QUOTED if texts else _QUOTED.replace('"text"', "''")
        rows = self._read(f'SELECT {columns} FROM samples ORDER BY lam IS NULL, lam, setting, question, "index"')
        correct = _COLUMNS.index("correct")
        samples = []
        for row in rows:
            values = dict(zip(_COLUMNS, row, strict=True))
            samples.append(Sample(**{**values, "correct": bool(row[correct])}))
        return samples

    def frame(self) -> polars.DataFrame:
        """All samples as a polars data frame, one row each."""
        import polars

        return polars.DataFrame(self.samples(), infer_schema_length=None)

    def export_parquet(self, path: Path) -> None:
        """Write all samples to a Parquet file."""
        self.frame().write_parquet(path)

    def _tables(self) -> set[str]:
        return {name for (name,) in self._read("SELECT name FROM sqlite_schema WHERE type = 'table'")}

    def _begin(self, plan: SweepPlan, provenance: dict[str, Any]) -> None:
        columns = ", ".join(f'"{name}" {_TYPES.get(name, "TEXT")}' for name in _COLUMNS)
        if self._tables() - {"meta", "samples"}:
            raise MullError(f"{self.folder / DATABASE} is another program's database", "choose a new folder")
        key = 'PRIMARY KEY (setting, question, "index")'
        asked = plan.benchmark.questions()
        questions = {q.id: {"text": q.text, "gold": q.gold, "stratum": q.stratum} for q in asked}
        with self._connection:
            self._connection.execute("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT)")
            self._connection.execute(f"CREATE TABLE IF NOT EXISTS samples ({columns}, {key})")
            if self._connection.execute("SELECT 1 FROM meta WHERE key = 'plan'").fetchone() is None:
                meta = {"plan": plan.record, "provenance": provenance, "questions": questions}
                rows = [(key, json.dumps(value)) for key, value in meta.items()]
                self._connection.executemany("INSERT INTO meta VALUES (?, ?)", rows)
        names = (self.provenance, provenance)
        changed = differences(self.plan, json.loads(json.dumps(plan.record)), names=names)
        if changed:
            raise MullError(
                f"{self.folder} holds a run of another plan ({'; '.join(changed)})",
                "go on with the old settings, or choose a new folder",
            )

    def _meta(self, key: str) -> str:
        row = next(self._read("SELECT value FROM meta WHERE key = ?", key), None)
        if row is None:
            raise MullError(f"{self.folder / DATABASE} holds no plan", "sweep into a new folder")
        return row[0]

    def _read(self, query: str, *values: str) -> Iterator[tuple]:
        try:
            yield from self._connection.execute(query, values)
        except sqlite3.DatabaseError as error:
            what = f"{self.folder / DATABASE} is damaged ({error})"
            raise MullError(what, "restore it, or sweep into a new folder") from None


def _connect(path: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path, timeout=30)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
    except sqlite3.DatabaseError as error:
        raise MullError(f"{path} is no run database ({error})", "choose another folder") from None
    return connection


def _connect_to_read(path: Path) -> sqlite3.Connection:
    """Also from a folder that cannot be written to, where SQLite cannot make its shared-memory file."""
    failure: sqlite3.DatabaseError | None = None
    for mode in ("mode=ro", "mode=ro&immutable=1"):
        try:
            connection = sqlite3.connect(f"file:{quote(str(path.resolve()))}?{mode}", uri=True, timeout=30)
            connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()
            return connection
        except sqlite3.DatabaseError as error:
            failure = error
    raise MullError(f"{path} is no run database ({failure})", "give the folder of `mull sweep --run`")
