"""`Table`: rows of numbers under grouped columns, and its data frame. Knows no study and no markup."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import polars

from mull.analysis.by_question import Mark

NEAR = {"near-best": "†", "near-second": "‡"}
"""Signs of a value that is no clear best or second."""
_NOTES = {
    "best": "bold: the highest by more than one paired standard error",
    "second": "underlined: the second highest, likewise",
    "near-best": "†: within one paired standard error of the highest, which is then not bold",
    "near-second": "‡: within one paired standard error of the second highest, which is then not underlined",
}


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of numbers, or of text where `decimals` is None."""

    key: str
    """Unique in its table; the name of the data frame's column."""
    head: str
    """With its unit."""
    group: str = ""
    """What stands above it and its neighbours of the same group."""
    decimals: int | None = 1


@dataclass(frozen=True)
class Cell:
    """A number in its column's unit; NaN where there is none."""

    value: float = math.nan
    error: float = math.nan
    """One standard error, or NaN."""
    low: float = math.nan
    high: float = math.nan
    """Limits of a 95 % interval, or NaN."""
    mark: Mark = ""
    note: str = ""
    """Stands in place of the interval."""


@dataclass(frozen=True)
class Row:
    """One line."""

    name: str
    cells: Sequence[Cell | str]
    section: str = ""
    """What this line and its neighbours of the same section stand under."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table of the page."""

    name: str
    """Of its files, its LaTeX label and its place on the page: there a slug (`mull.reports.slugs`)."""
    title: str
    caption: str
    """Where it comes from: run, n, k, units, kind of error."""
    head: str
    """Of the first column."""
    columns: Sequence[Column]
    rows: Sequence[Row] = field(default_factory=list)

    @property
    def legend(self) -> str:
        """The caption with what the marks in use mean."""
        used = {cell.mark for row in self.rows for cell in row.cells if isinstance(cell, Cell)}
        notes = [text for mark, text in _NOTES.items() if mark in used]
        return f"{self.caption} {'; '.join(notes)[:1].upper()}{'; '.join(notes)[1:]}." if notes else self.caption

    def frame(self) -> polars.DataFrame:
        """One row a line: the value of each column under its key, with `_error`, `_low`, `_high` and `_mark` behind it
        where any line has one."""
        data: dict[str, list[Any]] = {}
        if any(row.section for row in self.rows):
            data["section"] = [row.section for row in self.rows]
        data[self.head.lower()] = [row.name for row in self.rows]
        for i, column in enumerate(self.columns):
            cells = [row.cells[i] for row in self.rows]
            if column.decimals is None:
                data[column.key] = [cell if isinstance(cell, str) else "" for cell in cells]
                continue
            numbers = [cell if isinstance(cell, Cell) else Cell() for cell in cells]
            data[column.key] = [_number(cell.value) for cell in numbers]
            for part in ("error", "low", "high"):
                values = [_number(getattr(cell, part)) for cell in numbers]
                if any(value is not None for value in values):
                    data[f"{column.key}_{part}"] = values
            if any(cell.mark for cell in numbers):
                data[f"{column.key}_mark"] = [cell.mark for cell in numbers]
        return polars.DataFrame(data, strict=False)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
