"""Rows of a data file: JSONL, CSV with a header, or Parquet. Knows no benchmark."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from mull.errors import MullError

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
        if path.suffix.lower() not in SUFFIXES:
            raise MullError(f"{path} is no data file", f"give one of {', '.join(SUFFIXES)}")
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


def _jsonl(path: Path, content: bytes) -> list[DataRow]:
    rows = []
    for number, line in enumerate(content.split(b"\n"), 1):
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
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise MullError(f"{path} is not UTF-8", "save it as UTF-8") from None
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        names = list(reader.fieldnames or [])
        rows = list(reader)
    except csv.Error as error:
        raise MullError(f"{path} is no CSV file ({error})", "check its quotes") from None
    if doubled := [name for name in names if names.count(name) > 1]:
        raise MullError(f"{path} has the column {doubled[0]!r} twice", "keep one of them")
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise MullError(f"row {number} of {path} has other columns than its header", "check its quotes and commas")
    return rows


def _parquet(path: Path, content: bytes) -> list[DataRow]:
    import polars

    try:
        return polars.read_parquet(io.BytesIO(content)).to_dicts()
    except polars.exceptions.PolarsError as error:
        raise MullError(f"{path} is no Parquet file ({str(error).splitlines()[0]})", "give another file") from None


_PARSERS = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
