"""The SQLite file of a run: opens, reads and writes it, with SQLite's errors as `MullError`. Knows no table."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from mull.errors import MullError

log = logging.getLogger(__name__)

WAIT = 10.0
"""Seconds to wait for another process that has locked the file."""
LONGEST = 1 << 28
"""Most bytes of one value; a longer one was not written by mull."""
RESTORE = "restore it, or sweep into a new folder"
_CAUSES = {
    ("SQLITE_BUSY", "SQLITE_LOCKED"): ("is locked by another process", "wait until that has ended"),
    ("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM"): (
        "cannot be opened",
        "check that you may read and write its folder, or copy the whole folder to where you may",
    ),
    ("SQLITE_IOERR", "SQLITE_PROTOCOL", "SQLITE_FULL", "SQLITE_NOLFS"): (
        "cannot be read or written",
        "free space on its disk; if that is a network file system, copy the whole folder to a local disk",
    ),
}
"""Beginnings of the names of SQLite's errors: what is wrong, and the remedy."""


class Database:
    """One open connection to the file at `path`."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        log.debug("opened %s", path)

    @classmethod
    def to_write(cls, path: Path) -> Database:
        """Open or create the file for writing; other processes can read it meanwhile."""
        try:
            connection = sqlite3.connect(path, timeout=WAIT)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
        except sqlite3.Error as error:
            raise _refusal(path, error, opening=True) from None
        return cls(path, connection)

    @classmethod
    def to_read(cls, path: Path) -> Database:
        """Open the file for reading.

        In a folder that cannot be written, or on a full disk, SQLite cannot make the file through which processes share
        the index of the write-ahead log. There the index is kept in memory instead, which needs exclusive locking, and
        that without locks, because a file that cannot be written cannot be locked. (SQLite's `immutable=1` would ignore
        the log.)
        """
        try:
            return cls._reader(path, "mode=ro")
        except sqlite3.Error as error:
            failure = error
        if failure.sqlite_errorname.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_IOERR_SHM")):
            try:
                return cls._reader(path, "mode=ro&vfs=unix-none", "PRAGMA locking_mode = EXCLUSIVE")
            except sqlite3.Error:
                pass  # the first failure says more
        raise _refusal(path, failure, opening=True)

    @classmethod
    def _reader(cls, path: Path, options: str, *pragmas: str) -> Database:
        # An export reads from any of polars' threads, one at a time.
        where = f"file:{quote(str(path.resolve()))}?{options}"
        connection = sqlite3.connect(where, uri=True, timeout=WAIT, check_same_thread=False)
        try:
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST)
            for pragma in ("PRAGMA trusted_schema = OFF", *pragmas):
                connection.execute(pragma)
            connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()
        except sqlite3.Error:
            connection.close()
            raise
        return cls(path, connection)

    def close(self) -> None:
        self._connection.close()

    def read(self, query: str, *values: str | int) -> Iterator[tuple]:
        """The rows of a query. Raises `MullError` where the file is damaged."""
        try:
            yield from self._connection.execute(query, values)
        except sqlite3.Error as error:
            raise _refusal(self.path, error) from None

    def damaged(self, what: str) -> MullError:
        """The error for a value that mull does not write."""
        return MullError(f"{self.path} is damaged: {what}", RESTORE)

    def first(self, query: str, *values: str | int) -> tuple | None:
        """The first row of a query, None if there is none."""
        return next(self.read(query, *values), None)

    @contextmanager
    def writing(self, remedy: str = "mend that and run it again") -> Iterator[sqlite3.Connection]:
        """One transaction. Raises `MullError` with `remedy` where SQLite cannot write, e.g. on a full disk."""
        try:
            with self._connection as connection:
                yield connection
        except sqlite3.Error as error:
            raise MullError(f"cannot write to {self.path} ({error})", remedy) from None

    @property
    def tables(self) -> set[str]:
        return {name for (name,) in self.read("SELECT name FROM sqlite_schema WHERE type = 'table'")}


def _refusal(path: Path, error: sqlite3.Error, *, opening: bool = False) -> MullError:
    name = getattr(error, "sqlite_errorname", "")  # an error of Python's module itself has none
    for causes, (what, remedy) in _CAUSES.items():
        if name.startswith(causes):
            return MullError(f"{path} {what} ({error})", remedy)
    if opening:
        return MullError(f"{path} is no run database ({error})", "give or choose the folder of `mull sweep --run`")
    return MullError(f"{path} is damaged ({error})", RESTORE)


def scores_to_json(scores: Mapping[str, float]) -> str:
    """Scores as a column holds them: JSON, empty for none."""
    return json.dumps(dict(scores)) if scores else ""


def scores_from_json(text: str) -> dict[str, float]:
    """Raises ValueError where the column holds anything else."""
    scores = json.loads(text) if text else {}
    if not isinstance(scores, dict) or not all(type(score) in (int, float, bool) for score in scores.values()):
        raise ValueError("scores that are no numbers")
    return scores
