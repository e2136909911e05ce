"""Opens the SQLite file of a run. Knows nothing of what is in it."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from urllib.parse import quote

from mull.errors import MullError


def connect(path: Path) -> sqlite3.Connection:
    """For writing; a reader may read meanwhile."""
    try:
        connection = sqlite3.connect(path, timeout=30)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
    except sqlite3.DatabaseError as error:
        raise MullError(f"{path} is no run database ({error})", "choose another folder") from None
    return connection


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Also from a folder that cannot be written to, where SQLite cannot make its shared-memory file."""
    failure: sqlite3.DatabaseError | None = None
    for mode in ("mode=ro", "mode=ro&immutable=1"):
        try:
            where = f"file:{quote(str(path.resolve()))}?{mode}"
            # An export may be read by whichever of polars' threads is free, one at a time.
            connection = sqlite3.connect(where, uri=True, timeout=30, check_same_thread=False)
            connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()
            return connection
        except sqlite3.DatabaseError as error:
            failure = error
    raise MullError(f"{path} is no run database ({failure})", "give the folder of `mull sweep --run`")
