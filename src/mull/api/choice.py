"""`Choice`: the λ that was chosen, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from mull.analysis.choosing import choose as choosing
from mull.analysis.choosing.options import Option
from mull.analysis.choosing.race import Outcome
from mull.analysis.choosing.worth import Open, what_is_open
from mull.analysis.records import Sample
from mull.api.showing import paragraphs, table_html, table_text
from mull.reports.choice import headline, options_table, worth_lines
from mull.reports.table import Table

if TYPE_CHECKING:
    import polars


@dataclass(frozen=True, repr=False, eq=False)
class Choice:
    """The chosen setting, the settings to choose from, and how sure the choice is."""

    found: choosing.Choice
    """With goal, rivals and confidence."""
    samples: Sequence[Sample]
    """Those that the choice was made from, without their texts."""
    outcome: Outcome | None = None
    """Of the race; None where a run was there."""
    notes: Sequence[str] = ()
    """What of the run was left out, in sentences."""

    @classmethod
    def of(cls, outcome: Outcome) -> Choice:
        """The choice of a race."""
        return cls(outcome.choice, outcome.deciding, outcome)

    @property
    def pick(self) -> Option | None:
        """The chosen setting with accuracy and tokens; None where nothing that was measured meets the goal."""
        return self.found.pick

    @property
    def lam(self) -> float | None:
        """The chosen λ; None where nothing meets the goal, or what does is no λ."""
        return None if self.pick is None else self.pick.lam

    @cached_property
    def open(self) -> list[Open]:
        """What more samples could decide."""
        return list(what_is_open(self.samples, self.found))

    @property
    def headline(self) -> list[str]:
        """The choice in sentences, with intervals."""
        return headline(self.found, self.outcome)

    @property
    def outlook(self) -> list[str]:
        """What more samples would decide and gain, in sentences."""
        return worth_lines(self.found, self.open)

    @property
    def reasons(self) -> list[str]:
        """Both."""
        return [*self.headline, *self.outlook]

    @property
    def table(self) -> Table:
        """One row per setting, with its difference from the choice."""
        return options_table(self.found, self.outcome)

    @property
    def options(self) -> polars.DataFrame:
        """The table as a data frame; shares are fractions 0–1."""
        return self.table.frame()

    def __repr__(self) -> str:
        return "\n".join([*self.notes, *self.headline, "", table_text(self.table), "", *self.outlook])

    def _repr_html_(self) -> str:
        return f"{paragraphs([*self.notes, *self.headline])}{table_html(self.table)}{paragraphs(self.outlook)}"
