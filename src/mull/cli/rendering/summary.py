"""A run in the terminal: its table, and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from mull.analysis.records import Sample


def print_summary(
    samples: Sequence[Sample], stdout: Console, k: int | None = None, reference: str | None = None
) -> None:
    """The table of all settings; of a study what differs from its `reference`, else stages and plain words."""
    from mull.analysis.comparable import coverage
    from mull.analysis.frontier import non_dominated, points_of
    from mull.analysis.metrics import metrics
    from mull.analysis.stages import stages_of_samples
    from mull.analysis.summary import plain_words
    from mull.cli.rendering.scores import scores_table
    from mull.cli.rendering.tables import metrics_table, stages_text

    found = metrics(samples, k)
    stdout.print(metrics_table(found, non_dominated(points_of(found))), highlight=False)
    uneven = coverage(samples)
    if uneven:
        stdout.print(uneven, highlight=False, markup=False)
    further = scores_table(samples)
    if further is not None:
        stdout.print()
        stdout.print(further, highlight=False)
    if reference is not None:
        from mull.analysis.paired import contrasts
        from mull.cli.rendering.tables import contrasts_table

        stdout.print()
        stdout.print(contrasts_table(contrasts(samples, reference), reference), highlight=False)
    elif sum(m.lam is not None for m in found) > 1:
        stages = stages_of_samples(samples)
        stdout.print(stages_text(stages), highlight=False, markup=False)
        stdout.print(f"\n{plain_words(found, stages, samples)}", highlight=False, markup=False)
