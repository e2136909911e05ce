"""λ per query on the paper's page: the comparison of policies, its figures, and what it says."""

from __future__ import annotations

from collections.abc import Iterator

from mull.dynamic.evaluation import comparison
from mull.dynamic.evaluation.result import Result
from mull.reports.paper.page import Drawn
from mull.reports.routing.figures import histogram, routes_figure
from mull.reports.routing.tables import routes_table, strata_of
from mull.reports.table import Table

_FRONTIER = (460, 320)
"""Pixels, for 16 cm of print."""
_NARROW = (290, 300)
_HISTOGRAM = 460


def routing_tables(result: Result) -> list[Table]:
    """A row per policy: of all benchmarks together first, where there are several."""
    return [routes_table(found) for found in result.tables]


def routing_figures(result: Result) -> Iterator[Drawn]:
    """Accuracy over tokens of every policy, on all benchmarks and on each; then the λ that each estimator chose."""
    for found in result.tables:
        yield _frontier(found)
    for name, lams in strata_of(result).items():
        yield _chosen(name, lams)


def _frontier(found: comparison.Table) -> Drawn:
    where = "all benchmarks" if found.benchmark == "average" else found.benchmark
    return Drawn(
        f"routes-{found.benchmark}",
        f"Accuracy over tokens of each policy, {where}",
        f"{found.questions:,} questions. A point above the joined line does better than every static λ at its tokens. "
        "Blue: λ per query. Tokens to choose λ are counted.",
        lambda variant, narrow: routes_figure(found, variant, _NARROW if narrow else _FRONTIER),
    )


def _chosen(name: str, lams: dict[str, list[float]]) -> Drawn:
    means = "; ".join(f"{stratum or 'all'} {sum(each) / len(each):.2f}" for stratum, each in lams.items())
    return Drawn(
        f"lambda-{name}",
        f"λ that {name} chose",
        f"In % of the questions of each difficulty. Mean λ: {means}.",
        lambda variant, narrow: histogram(lams, variant, 250 if narrow else _HISTOGRAM),
    )
