"""Every table of a run, for files: CSV and Parquet for programs, LaTeX (booktabs) for papers.

In CSV and Parquet accuracies and shares are fractions 0–1, tokens tokens, seconds seconds; `*_error` is one standard
error clustered by question, undefined values are empty. LaTeX shows shares in percent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Literal

from mull.analysis.frontier import non_dominated, points_of
from mull.analysis.metrics import by_stratum, metrics
from mull.analysis.paired import compare, contrasts
from mull.analysis.records import Sample, by_benchmark, of_every_benchmark
from mull.analysis.stages import stages_of_samples
from mull.benchmarks.several import AVERAGE
from mull.errors import MullError
from mull.reports import renderers
from mull.reports.slugs import slugs
from mull.reports.table import Table
from mull.reports.tables import (
    benchmarks_table,
    cost_table,
    differences_table,
    metrics_table,
    scores_table,
    stages_table,
)

Format = Literal["csv", "parquet", "latex"]
SUFFIXES: dict[Format, str] = {"csv": ".csv", "parquet": ".parquet", "latex": ".tex"}


def tables(samples: Sequence[Sample], reference: str | None = None, benchmarks: Sequence[str] = ()) -> dict[str, Table]:
    """Every table of a run by name: `metrics`, `scores` where graders say more than right or wrong,
    `strata` where there are several, `cost`, `contrasts`, and along λ `neighbours` and `stages` where a rise is found.

    Contrasts are against `reference`: the highest λ unless given, or the first setting where none has a λ. Of several
    benchmarks the table `metrics` has each and the average, `contrasts`, `neighbours` and `stages` are those of the
    average, and each has its own tables, whose names end in its name. `benchmarks`: those of the plan, of which an
    unfinished run may lack some. Raises `MullError` for an unknown reference, and where no setting has all of them.
    """
    parts = by_benchmark(samples)
    every = of_every_benchmark(samples, benchmarks or None)
    if not every:
        names = ", ".join(benchmarks or parts)
        raise MullError(f"no setting has responses to each of {names} yet", "let the sweep go on")
    if len(parts) == 1:
        return _tables(samples, reference)
    found, made = metrics(every), _tables(every, reference)
    each = {AVERAGE: found, **{name: metrics(own) for name, own in parts.items()}}
    made["metrics"] = benchmarks_table(each, non_dominated(points_of(found)))
    made = {name: made[name] for name in ("metrics", "contrasts", "neighbours", "stages") if name in made}
    for end, own in zip(slugs(parts), parts.values(), strict=True):
        made |= {f"{name}-{end}": replace(t, name=f"{name}-{end}") for name, t in _tables(own, reference).items()}
    return made


def _tables(samples: Sequence[Sample], reference: str | None) -> dict[str, Table]:
    found = metrics(samples)
    benchmark, with_lam = samples[0].benchmark, [m for m in found if m.lam is not None]
    made = [metrics_table(benchmark, {"": found}, non_dominated(points_of(found)))]
    scores = scores_table(samples, found)
    made += [scores] if scores else []
    strata = by_stratum(samples)
    if len(strata) > 1:
        made.append(metrics_table(benchmark, strata, None))
    made.append(cost_table([("", {m.setting: m for m in found}, samples)]))
    if len(found) > 1:
        chosen = reference or (with_lam[-1] if with_lam else found[0]).setting
        made.append(differences_table(contrasts(samples, chosen), found))
    if len(with_lam) > 1:
        pairs = [(above.setting, below.setting) for below, above in pairwise(with_lam)]
        made.append(differences_table(compare(samples, pairs), found, name="neighbours", title="Neighbours along λ"))
        stages = stages_table(stages_of_samples(samples))
        made += [stages] if stages.rows else []
    return {table.name: table for table in made if table.rows}


def encode(table: Table, form: Format) -> bytes:
    """The table as a file's bytes."""
    if form == "latex":
        return renderers.latex(table).encode()
    return renderers.csv(table) if form == "csv" else renderers.parquet(table)
