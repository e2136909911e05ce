"""Reads the cells of a data row as text. A value is kept as it was written, or the row is refused; none is guessed."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from datetime import date, time, timedelta
from decimal import Decimal
from string import ascii_uppercase
from typing import Any

from mull.benchmarks.rows import MOST_EXACT, DataRow

_NAMED_OPTION = re.compile(r"(?i)(?:option|choice|opt)[ _-]?(?:([a-z])|(\d{1,2}))")


class BadRow(ValueError):
    """A row that cannot be read; the message names the column and never quotes the content."""


def cell(row: DataRow, name: str) -> str:
    """The value in column `name` as text, empty if there is none; 5.0 becomes "5".

    None and NaN, which stands for a missing value in tables of numbers, are no value.
    """
    value = row.get(name)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        if math.isinf(value):
            raise BadRow(f"column {name!r} holds an infinite number; write it as text")
        if value.is_integer():
            if abs(value) > MOST_EXACT:
                raise BadRow(f"column {name!r} holds a number above 2⁵³, which may have been rounded; write it as text")
            return str(int(value))
        return repr(value)
    if isinstance(value, Decimal):
        return format(value, "f") if value.is_finite() else ""
    if isinstance(value, str | int | date | time | timedelta):
        return str(value).strip()
    raise BadRow(f"column {name!r} holds {_KINDS.get(type(value), type(value).__name__)}; write it as text")


_KINDS: dict[type, str] = {list: "a list", dict: "an object", bytes: "bytes"}


def column(row: DataRow, *names: str) -> str:
    """The value of the first column of `names` that is not empty, as text."""
    for name in names:
        if value := cell(row, name):
            return value
    raise BadRow(f"no column {' or '.join(map(repr, names))}, or nothing in it")


def only_column(row: DataRow, *names: str) -> str:
    """As `column`, but columns that differ are refused: which one is meant cannot be known."""
    value = column(row, *names)
    if other := [name for name in names if cell(row, name) not in ("", value)]:
        first = next(name for name in names if cell(row, name))
        raise BadRow(f"columns {first!r} and {other[0]!r} differ; keep one of them")
    return value


def options(row: DataRow, *, bare: bool) -> list[str]:
    """The options of multiple choice in a row: a list in `options` or `choices`, or one column each.

    A column each is option_a, choice B, option1 …; with `bare` also A, B, C …. Empty if the row has no options.
    """
    for name in ("options", "choices", "Options", "Choices"):
        value = row.get(name)
        if isinstance(value, str) and value.strip():
            value = _from_json(value, name)
        if isinstance(value, dict):
            value = value.get("text", list(value.values()))
        if isinstance(value, list) and value:
            return _whole([cell({name: each}, name) for each in value], name)
        if value not in (None, "", [], {}):
            raise BadRow(f"column {name!r} holds no list of options")
    columns = {key: name for name in row if (key := _place(name, bare=bare)) is not None}
    if not columns:
        return []
    first = min(columns)
    if first > 1 or sorted(columns) != list(range(first, first + len(columns))):
        raise BadRow(f"the columns of options do not follow each other: {', '.join(map(repr, columns.values()))}")
    return _whole([cell(row, columns[place]) for place in sorted(columns)], columns[first])


def with_options(text: str, given: Iterable[str]) -> str:
    """The question with its options on lines A), B) …, unless it has them already."""
    lines = [(letter, option) for letter, option in zip(ascii_uppercase, given, strict=False)]
    if all(re.search(rf"(?m)^\s*\(?{letter}[).:]\s*{re.escape(option)}", text) for letter, option in lines):
        return text
    return text + "\n\n" + "\n".join(f"{letter}) {option}" for letter, option in lines)


def _from_json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise BadRow(f"column {name!r} is no list in JSON") from None


def _place(name: str, *, bare: bool) -> int | None:
    """The place of an option's column among its likes: A is 0; numbers are themselves."""
    if bare and len(name) == 1 and name in ascii_uppercase:
        return ascii_uppercase.index(name)
    if match := _NAMED_OPTION.fullmatch(name):
        return ascii_uppercase.index(match[1].upper()) if match[1] else int(match[2])
    return None


def _whole(found: list[str], name: str) -> list[str]:
    """Options without the empty ones at the end, which only fill up a table."""
    while found and not found[-1]:
        found.pop()
    if not all(found) or len(found) > len(ascii_uppercase):
        raise BadRow(f"column {name!r}: an option is empty, or there are more than {len(ascii_uppercase)}")
    if len(found) == 1:
        raise BadRow(f"column {name!r}: a single option is no choice")
    return found
