"""Rows of a data file: JSONL, CSV with a header (commas, semicolons or tabs), or Parquet. Knows no benchmark."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from mull.encodings import decoded
from mull.errors import MullError
from mull.words import listed

SUFFIXES = (".jsonl", ".csv", ".parquet")

DataRow = dict[str, Any]

MOST_EXACT = 2**53
"""Above it a floating-point number may stand for another integer than was meant."""


class Data(NamedTuple):
    """The rows of one or more files, and the SHA-256 of their bytes."""

    rows: list[DataRow]
    digest: str


def read(paths: Sequence[Path]) -> Data:
    """All rows of `paths`, in order.

    Raises:
        MullError: a file is missing, empty, of another kind, or has a line that cannot be read. Messages never quote
            the content.
    """
    digest = hashlib.sha256()
    rows: list[DataRow] = []
    for path in paths:
        check_suffix(path)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise MullError(f"cannot read {path}: {error.strerror}", "give the file's path") from None
        digest.update(content)
        found = _PARSERS[path.suffix.lower()](path, content)
        if not found:
            raise MullError(f"{path} holds no rows", "give a file with at least one question")
        rows += found
    return Data(rows, digest.hexdigest())


def check_suffix(path: Path) -> None:
    """Raise `MullError` unless the name of the file says of which kind it is."""
    if path.suffix.lower() not in SUFFIXES:
        hint = _HINTS.get(path.suffix.lower(), "")
        raise MullError(f"{path} is no data file", f"give a {listed(SUFFIXES, 'or')} file{hint}")


def _jsonl(path: Path, content: bytes) -> list[DataRow]:
    rows = []
    for number, line in enumerate(decoded(path, content).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_float=_decimal, object_pairs_hook=_once)
        except DoubledKey as error:
            raise MullError(f"line {number} of {path} has {error} twice", "keep one of them") from None
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise MullError(f"line {number} of {path} is no JSON object", "write one JSON object per line")
        rows.append(row)
    return rows


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


def _csv(path: Path, content: bytes) -> list[DataRow]:
    text = decoded(path, content)
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)  # of equals the comma
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        names = list(reader.fieldnames or [])
        rows = list(reader)
    except csv.Error as error:
        raise MullError(f"{path} is no CSV file ({error})", "check its quotes") from None
    if doubled := [name for name in names if names.count(name) > 1]:
        raise MullError(f"{path} has the column {doubled[0]!r} twice", "keep one of them")
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise MullError(
                f"row {number} of {path} has other columns than its header",
                f"check its quotes and {_DELIMITERS[delimiter]}",
            )
    return rows


_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_HINTS = {".json": "; one JSON object per line is .jsonl", ".tsv": "; in a .csv file tabs are read, too"}


def _parquet(path: Path, content: bytes) -> list[DataRow]:
    import polars

    try:
        return polars.read_parquet(io.BytesIO(content)).to_dicts()
    except polars.exceptions.PolarsError as error:
        raise MullError(f"{path} is no Parquet file ({str(error).splitlines()[0]})", "give another file") from None


_PARSERS = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
