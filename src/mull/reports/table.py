"""`Table`: rows of figures under grouped columns, and its data frame. Knows no study and no markup."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from mull.analysis.by_question import Mark
from mull.analysis.metrics import Estimate
from mull.analysis.paired import PairedDifference
from mull.reports.format import NONE, fixed, plus_minus, signed

if TYPE_CHECKING:
    import polars

_NEAR = {"near-best": "†", "near-second": "‡"}
"""Signs of a value that is no clear best or second."""
STAR = "●"
"""Sign behind the name of a line that stands out."""
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
    unit: str = ""
    """What the numbers are shown in, where the head is to say it."""
    scale: float = 1.0
    """What a value is multiplied by to be shown: 100 of fractions that are shown in percent."""
    group: str = ""
    """What stands above it and its neighbours of the same group."""
    decimals: int | None = 1
    by_error: bool = False
    """Whether a value has as many decimals as its error supports, up to `decimals`, and always an error."""
    signed: bool = False
    """Whether values are differences, with a sign and an interval."""
    interval: bool = False
    """Whether values have an interval, in the data frame even where it is not known."""
    least: float = 0.0
    """A smaller value is shown as being below it."""
    shown: bool = True
    """Else it is in the data frame alone."""
    tones: Mapping[str, str] = field(default_factory=dict)
    """Text of a cell → its class on a page."""

    @property
    def title(self) -> str:
        """The head with its unit."""
        return f"{self.head}, {self.unit}" if self.unit else self.head


@dataclass(frozen=True)
class Cell:
    """A number in its natural unit (shares are fractions 0–1); NaN where there is none."""

    value: float = math.nan
    error: float = math.nan
    """One standard error, or NaN."""
    low: float = math.nan
    high: float = math.nan
    """Limits of a 95 % interval, or NaN."""
    mark: Mark = ""
    note: str = ""
    """Stands in place of the interval, or behind the error."""

    @property
    def near(self) -> str:
        """The sign behind a value that is no clear best or second."""
        return _NEAR.get(self.mark, "")

    @classmethod
    def of(cls, estimate: Estimate, mark: Mark = "", note: str = "") -> Cell:
        """An estimate with its error."""
        return cls(estimate.value, estimate.error, mark=mark, note=note)

    @classmethod
    def difference(cls, found: PairedDifference) -> Cell:
        """A difference with its interval, or words where there is none to show."""
        if math.isnan(found.low):
            return cls(found.difference, note="[?]")
        if found.alike:  # an interval of no width would read as certainty
            words = "no question differs" if abs(found.difference) < 1e-9 else "on every question"
            return cls(found.difference, note=words)
        return cls(found.difference, low=found.low, high=found.high)


@dataclass(frozen=True)
class Row:
    """One line."""

    name: str
    cells: Sequence[Cell | str]
    section: str = ""
    """What this line and its neighbours of the same section stand under."""
    key: str = ""
    """In place of the name in the data frame."""
    star: bool = False
    """Whether it stands out."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table, of a page, a terminal or a file."""

    name: str
    """Of its files, its LaTeX label and its place on the page: there a slug (`mull.reports.slugs`)."""
    title: str
    caption: str
    """Where it comes from: run, n, k, units, kind of error."""
    head: str
    """Of the first column."""
    key: str = ""
    """In place of the head in the data frame."""
    columns: Sequence[Column]
    rows: Sequence[Row] = field(default_factory=list)
    section_is_data: bool = True
    """False where a column of the data frame says what the sections do."""

    @property
    def legend(self) -> str:
        """The caption with what the marks in use mean."""
        used = {cell.mark for row in self.rows for cell in row.cells if isinstance(cell, Cell)}
        notes = [text for mark, text in _NOTES.items() if mark in used]
        return f"{self.caption} {'; '.join(notes)[:1].upper()}{'; '.join(notes)[1:]}." if notes else self.caption

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Names of the groups of columns (empty where there is none) with their numbers of columns, left to right."""
        return [(name, len(list(found))) for name, found in groupby(self.columns, key=lambda column: column.group)]

    @property
    def sections(self) -> list[tuple[str, list[Row]]]:
        """The rows under the names of their sections, from the top."""
        return [(name, list(found)) for name, found in groupby(self.rows, key=lambda row: row.section)]

    @property
    def shown(self) -> Table:
        """Without the columns that are data alone."""
        return self.select(*(column.key for column in self.columns if column.shown))

    def select(self, *keys: str) -> Table:
        """With these columns only, as far as there are such, in the table's order."""
        kept = [i for i, column in enumerate(self.columns) if column.key in keys]
        rows = [replace(row, cells=[row.cells[i] for i in kept]) for row in self.rows]
        return replace(self, columns=[self.columns[i] for i in kept], rows=rows)

    def frame(self) -> polars.DataFrame:
        """One row a line: the value of each column under its key, with `_error`, `_low`, `_high` and `_mark` behind it
        where the column or any line has one. What is undefined is null."""
        import polars  # slow to import, and tables are mostly shown

        data: dict[str, list[Any]] = {}
        if self.section_is_data and any(row.section for row in self.rows):
            data["section"] = [row.section for row in self.rows]
        data[self.key or self.head.lower()] = [row.key or row.name for row in self.rows]
        for i, column in enumerate(self.columns):
            cells = [row.cells[i] for row in self.rows]
            if column.decimals is None:
                data[column.key] = [cell if isinstance(cell, str) else "" for cell in cells]
                continue
            numbers = [cell if isinstance(cell, Cell) else Cell() for cell in cells]
            data[column.key] = [_number(cell.value) for cell in numbers]
            limits = column.signed or column.interval
            always = {"error": column.by_error, "low": limits, "high": limits}
            for part, wanted in always.items():
                values = [_number(getattr(cell, part)) for cell in numbers]
                if wanted or any(value is not None for value in values):
                    data[f"{column.key}_{part}"] = values
            if any(cell.mark for cell in numbers):
                data[f"{column.key}_mark"] = [cell.mark for cell in numbers]
        # What is null in all lines is a number all the same.
        return polars.DataFrame(data, strict=False).with_columns(polars.selectors.by_dtype(polars.Null).cast(float))


def parts(cell: Cell, column: Column) -> tuple[str, str]:
    """A cell's value as text, and its error or interval."""
    value, error, low, high = (column.scale * each for each in (cell.value, cell.error, cell.low, cell.high))
    places = column.decimals or 0
    if column.signed and math.isnan(value):
        return NONE, cell.note
    if column.signed:
        shown, limits = signed(value, places), f"[{signed(low, places)}, {signed(high, places)}]"
        if cell.note:
            return ("", cell.note) if abs(value) < 1e-9 else (shown, cell.note)
        return shown, "" if math.isnan(low) else limits
    if column.by_error:
        shown, _, behind = plus_minus(Estimate(value, error), places).partition(" ± ")
        return shown, " ".join(filter(None, [f"± {behind}" if behind else "", cell.note]))
    shown = NONE if math.isnan(value) else fixed(value, places)
    shown = f"<{fixed(column.least, places)}" if column.least and value < column.least else shown
    if cell.note:
        return shown, cell.note
    if not math.isnan(low):
        return shown, f"[{fixed(low, places)}, {fixed(high, places)}]"
    return shown, "" if math.isnan(error) else f"± {fixed(error, places)}"


def points(found: PairedDifference) -> str:
    """A difference of two shares in points, with its 95 % interval, or words where all questions agree."""
    return _text(found, Column(key="", head="", scale=100, signed=True))


def tokens(found: PairedDifference) -> str:
    """A difference of two token counts, with its 95 % interval, or words where all questions agree."""
    return _text(found, Column(key="", head="", decimals=0, signed=True))


def _text(found: PairedDifference, column: Column) -> str:
    return " ".join(filter(None, parts(Cell.difference(found), column)))


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
