"""The table of what graders find besides right and wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from mull.study.records import Sample


def scores_table(samples: Sequence[Sample]) -> Table | None:
    """One row per setting, by λ; None where the graders said no more than right or wrong."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from mull.reports.format import percent
    from mull.study.scores import further_scores

    groups: dict[str, list[Sample]] = {}
    for sample in sorted(samples, key=lambda s: (s.lam is None, s.lam or 0.0, s.setting)):
        groups.setdefault(sample.setting, []).append(sample)
    if not any(sample.scores for sample in samples):
        return None
    found = {setting: further_scores(rows) for setting, rows in groups.items()}
    heads = list(dict.fromkeys(name for scores in found.values() for name in scores))
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, title="further scores, %", title_justify="left")
    table.add_column("λ" if all(rows[0].lam is not None for rows in groups.values()) else "setting", overflow="fold")
    for head in heads:
        table.add_column(head, justify="right")
    for setting, scores in found.items():
        table.add_row(escape(setting), *(percent(scores[head]) if head in scores else "" for head in heads))
    return table
