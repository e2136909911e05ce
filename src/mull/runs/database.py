"""The SQLite file of a run: opens, reads and writes it, with SQLite's errors as `MullError`. Knows no table."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mull.errors import MullError


class Database:
    """One open connection to the file at `path`."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection

    @classmethod
    def to_write(cls, path: Path) -> Database:
        """Open or create the file for writing; other processes can read it meanwhile."""
        try:
            connection = sqlite3.connect(path, timeout=30)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
        except sqlite3.DatabaseError as error:
            raise MullError(f"{path} is no run database ({error})", "choose another folder") from None
        return cls(path, connection)

    @classmethod
    def to_read(cls, path: Path) -> Database:
        """Open the file for reading, also where its folder is read-only: there SQLite cannot make the file by which it
        shares memory, and the second mode does without."""
        failure: sqlite3.DatabaseError | None = None
        for mode in ("mode=ro", "mode=ro&immutable=1"):
            try:
                where = f"file:{quote(str(path.resolve()))}?{mode}"
                # An export reads from any of polars' threads, one at a time.
                connection = sqlite3.connect(where, uri=True, timeout=30, check_same_thread=False)
                connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()
                return cls(path, connection)
            except sqlite3.DatabaseError as error:
                failure = error
        raise MullError(f"{path} is no run database ({failure})", "give the folder of `mull sweep --run`")

    def close(self) -> None:
        self._connection.close()

    def read(self, query: str, *values: str | int) -> Iterator[tuple]:
        """The rows of a query. Raises `MullError` where the file is damaged."""
        try:
            yield from self._connection.execute(query, values)
        except sqlite3.DatabaseError as error:
            what = f"{self.path} is damaged ({error})"
            raise MullError(what, "restore it, or sweep into a new folder") from None

    def first(self, query: str, *values: str | int) -> tuple | None:
        """The first row of a query, None if there is none."""
        return next(self.read(query, *values), None)

    @contextmanager
    def writing(self, remedy: str = "mend that and run it again") -> Iterator[sqlite3.Connection]:
        """One transaction. Raises `MullError` with `remedy` where SQLite cannot write, e.g. on a full disk."""
        try:
            with self._connection as connection:
                yield connection
        except sqlite3.OperationalError as error:
            raise MullError(f"cannot write to {self.path} ({error})", remedy) from None

    @property
    def tables(self) -> set[str]:
        return {name for (name,) in self.read("SELECT name FROM sqlite_schema WHERE type = 'table'")}


def scores_to_json(scores: Mapping[str, float]) -> str:
    """Scores as a column holds them: JSON, empty for none."""
    return json.dumps(dict(scores)) if scores else ""


def scores_from_json(text: str) -> dict[str, Any]:
    return json.loads(text) if text else {}
