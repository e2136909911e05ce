"""The table and the main results of a run, printed in the terminal or as values for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from mull.analysis.comparable import coverage, unthinking_end
from mull.analysis.frontier import non_dominated, points_of
from mull.analysis.metrics import metrics
from mull.analysis.paired import contrasts
from mull.analysis.records import Sample, by_benchmark, of_every_benchmark
from mull.analysis.scores import scores_by_setting
from mull.analysis.stages import stages_of_samples
from mull.analysis.summary import plain_words
from mull.benchmarks.several import AVERAGE
from mull.reports.format import stages_text
from mull.reports.renderers import terminal
from mull.reports.tables import BRIEF, benchmarks_table, differences_table, metrics_table, scores_table


def print_summary(
    samples: Sequence[Sample],
    stdout: Console,
    k: int | None = None,
    reference: str | None = None,
    benchmarks: Sequence[str] = (),
) -> None:
    """Print the table of all settings; with a `reference` the differences from it, else stages and plain words.

    Of several benchmarks the table shows the average and each, and all else is about the average. `benchmarks`: those
    of the plan, of which an unfinished run may lack some.
    """
    parts, samples = by_benchmark(samples), of_every_benchmark(samples, benchmarks or None)
    if not samples:
        stdout.print(f"no setting has responses to each of {', '.join(benchmarks or parts)} yet", highlight=False)
        return
    found = metrics(samples, k)
    frontier = non_dominated(points_of(found))
    if len(parts) > 1:
        each = {name: metrics(own, k) for name, own in parts.items()}
        table = benchmarks_table({AVERAGE: found, **each}, frontier)
    else:
        table = metrics_table(samples[0].benchmark, {"": found}, frontier)
    stdout.print(terminal(table.select(*BRIEF)), highlight=False)
    uneven = coverage(samples)
    if uneven:
        stdout.print(uneven, highlight=False, markup=False)
    unthinking = unthinking_end(found)
    if unthinking:
        stdout.print(f"warning: {unthinking}", style="yellow", highlight=False, markup=False)
    for name, own in parts.items():
        further = scores_table(own, metrics(own, k))
        if further is not None:
            stdout.print(f"\n{name}" if len(parts) > 1 else "", highlight=False, markup=False)
            stdout.print(terminal(further), highlight=False)
    if reference is not None:
        differing = contrasts(samples, reference)
        if differing:
            table = differences_table(differing, found).select("accuracy", "p_value", "tokens")
            stdout.print()
            stdout.print(terminal(table), highlight=False)
    elif sum(m.lam is not None for m in found) > 1:
        stages = stages_of_samples(samples)
        stdout.print()
        stdout.print(stages_text(stages), highlight=False, markup=False)
        stdout.print(f"\n{plain_words(found, stages, samples)}", highlight=False, markup=False)


def summary(samples: Sequence[Sample], k: int | None = None, reference: str | None = None) -> dict[str, Any]:
    """What `print_summary` prints: the metrics of every setting with standard errors, the frontier, further scores;
    of a study the differences from its `reference`, else stages and plain words. Of several benchmarks all of it is
    that of the average, and `benchmarks` has it for each."""
    parts, samples = by_benchmark(samples), of_every_benchmark(samples)
    if len(parts) > 1:
        each = {name: summary(own, k, reference) for name, own in parts.items()}
        return {**(_summary(samples, k, reference) if samples else {}), "benchmarks": each}
    return _summary(samples, k, reference)


def _summary(samples: Sequence[Sample], k: int | None, reference: str | None) -> dict[str, Any]:
    found = metrics(samples, k)
    result: dict[str, Any] = {
        "settings": found,
        "coverage": coverage(samples),
        "unthinking_end": unthinking_end(found),
        "frontier": [point.setting for point in non_dominated(points_of(found)).points],
        "scores": scores_by_setting(samples) if len({sample.benchmark for sample in samples}) == 1 else {},
    }
    if reference is not None:
        return result | {"reference": reference, "differences": contrasts(samples, reference)}
    if sum(m.lam is not None for m in found) > 1:
        stages = stages_of_samples(samples)
        result |= {"stages": stages, "words": plain_words(found, stages, samples)}
    return result
