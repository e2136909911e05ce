"""The table of what graders find besides right and wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from mull.analysis.records import Sample


def scores_table(samples: Sequence[Sample]) -> Table | None:
    """One row per setting, by λ; None where the graders said no more than right or wrong."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from mull.analysis.scores import names_of_scores, scores_by_setting
    from mull.reports.format import percent

    found = scores_by_setting(samples)
    if not found:
        return None
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, title="further scores, %", title_justify="left")
    table.add_column("λ" if all(sample.lam is not None for sample in samples) else "setting", overflow="fold")
    heads = names_of_scores(found)
    for head in heads:
        table.add_column(head, justify="right")
    for setting, scores in found.items():
        table.add_row(escape(setting), *(percent(scores[head]) if head in scores else "" for head in heads))
    return table
