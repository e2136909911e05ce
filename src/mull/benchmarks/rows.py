"""Rows of a data file: JSONL, CSV with a header (commas, semicolons or tabs), or Parquet. Knows no benchmark.

Whatever the file holds, reading it takes bounded time and memory.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from mull.encodings import decoded
from mull.errors import MullError
from mull.words import listed

log = logging.getLogger(__name__)

SUFFIXES = (".jsonl", ".csv", ".parquet")
MOST = 64 << 20
"""Most bytes of a file, and of the text in it."""
LONGEST = 16 << 20
"""Most bytes of one row as JSON."""
ROWS = 250_000
"""Most rows of one file."""
_SPLIT = "give the rows that are to be asked in a file of their own"

MOST_EXACT = 2**53
"""Above it a floating-point number may stand for another integer than was meant."""

DataRow = dict[str, Any]


class Data(NamedTuple):
    """The rows of one or more files, and the SHA-256 of their bytes."""

    rows: Iterator[DataRow]
    """Read one by one, because a row of nested JSON can take twenty times its bytes in memory."""
    digest: str


def read(paths: Sequence[Path]) -> Data:
    """All rows of `paths`, in order.

    Raises:
        MullError: a file is missing, empty, too large, of another kind, or (while the rows are read) has a line that
            cannot be read. Messages never quote the content.
    """
    files = []
    for path in paths:
        check_suffix(path)
        files.append((path, _content(path)))
    digest = hashlib.sha256(b"".join(content for _, content in files)).hexdigest()
    return Data(_rows(files), digest)


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MOST + 1)
    except OSError as error:
        raise MullError(f"cannot read {path}: {error.strerror}", "give the file's path") from None
    if len(content) > MOST:
        raise MullError(f"{path} has more than {MOST >> 20} MB", _SPLIT)
    log.debug("read %s: %d bytes", path, len(content))
    return content


def _rows(files: Sequence[tuple[Path, bytes]]) -> Iterator[DataRow]:
    for path, content in files:
        number = 0
        for number, row in enumerate(_PARSERS[path.suffix.lower()](path, content), 1):
            if number > ROWS:
                raise MullError(f"{path} has more than {ROWS:,} rows", _SPLIT)
            yield row
        if not number:
            raise MullError(f"{path} holds no rows", "give a file with at least one question")


def check_suffix(path: Path) -> None:
    """Raise `MullError` unless the name of the file says of which kind it is."""
    if path.suffix.lower() not in SUFFIXES:
        hint = _HINTS.get(path.suffix.lower(), "")
        raise MullError(f"{path} is no data file", f"give a {listed(SUFFIXES, 'or')} file{hint}")


def _jsonl(path: Path, content: bytes, parse_float: Callable[[str], Any] | None = None) -> Iterator[DataRow]:
    # By lines of bytes: a text of 64 MB with one wide character would take 256 MB.
    decoded(path, content[: 1 << 16])
    for number, line in enumerate(io.BytesIO(content.removeprefix(codecs.BOM_UTF8)), 1):
        if len(line) > LONGEST:
            raise MullError(f"line {number} of {path} has more than {LONGEST >> 20} MB", "leave out what is no text")
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_float=parse_float or _decimal, object_pairs_hook=_once)
        except DoubledKey as error:
            raise MullError(f"line {number} of {path} has {error} twice", "keep one of them") from None
        except UnicodeDecodeError:
            decoded(path, content)  # names the encoding that the file seems to have
            raise
        except ValueError:  # numbers of thousands of digits too
            row = None
        except RecursionError:
            raise MullError(f"line {number} of {path} is nested too deeply", "write one flat object per line") from None
        if not isinstance(row, dict):
            raise MullError(f"line {number} of {path} is no JSON object", "write one JSON object per line")
        if b"\\u" in line and _has_lone_surrogate(row):
            what = f"line {number} of {path} has half of a character (a lone surrogate such as \\ud83d)"
            raise MullError(what, "write the whole character")
        yield row


class DoubledKey(Exception):
    """A JSON object has a key twice, of which `json` would keep the last."""


def _once(pairs: list[tuple[str, Any]]) -> DataRow:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise DoubledKey(repr(next(name for name in names if names.count(name) > 1)))
    return found


def _decimal(text: str) -> float | str:
    """A number as a float, or as it was written where a float is, or may be, another number."""
    value = float(text)
    return value if abs(value) <= MOST_EXACT and Decimal(repr(value)) == Decimal(text) else text


def _has_lone_surrogate(row: DataRow) -> bool:
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _csv(path: Path, content: bytes) -> Iterator[DataRow]:
    text = decoded(path, content)
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)  # of equals the comma
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        names = list(reader.fieldnames or [])
        if doubled := [name for name in names if names.count(name) > 1]:
            raise MullError(f"{path} has the column {doubled[0]!r} twice", "keep one of them")
        for number, row in enumerate(reader, 1):
            if None in row or None in row.values():
                raise MullError(
                    f"row {number} of {path} has other columns than its header",
                    f"check its quotes and {_DELIMITERS[delimiter]}",
                )
            yield row
    except csv.Error as error:
        raise MullError(f"{path} is no CSV file ({error})", "check its quotes") from None


_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_HINTS = {".json": "; one JSON object per line is .jsonl", ".tsv": "; in a .csv file tabs are read, too"}


def _parquet(path: Path, content: bytes) -> Iterator[DataRow]:
    command = [sys.executable, "-m", "mull.benchmarks.parquet_worker", str(MOST)]
    alone = {**os.environ, "POLARS_MAX_THREADS": "1"}  # each thread reserves address space, which is limited
    done = subprocess.run(command, input=content, capture_output=True, env=alone)
    if done.returncode == 3:
        raise MullError(f"{path} unpacks to more than {MOST >> 20} MB", _SPLIT)
    if done.returncode == 1:
        reason = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise MullError(f"{path} is no Parquet file ({reason})", "give another file")
    if done.returncode:
        raise MullError(f"{path} cannot be unpacked within the limits of memory and time", "give another file")
    return _jsonl(path, done.stdout, parse_float=float)  # floats they were: no digits of theirs are lost


_PARSERS = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
