"""Writes the paper's figures and tables, and those of λ per query, from the user's runs into one folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from mull.analysis.frontier import non_dominated, points_of
from mull.analysis.stages import stages_of_samples
from mull.folders import whole_folder, write_atomically
from mull.reports.figures.frontier import frontier_figure
from mull.reports.figures.render import pdf, svg
from mull.reports.paper import names
from mull.reports.paper.figures import Swept, ablation_figure, decoding_figure, dynamics_figure
from mull.reports.paper.further import further_tables
from mull.reports.paper.missing import Missing, missing
from mull.reports.paper.page import Drawn, page
from mull.reports.paper.routing import routing_figures, routing_tables
from mull.reports.paper.runs import OWN_INSTRUCT, Arena, Run, Studies, open_runs
from mull.reports.paper.tables import paper_tables, scope, spread_words
from mull.reports.renderers import csv, latex, markdown, parquet
from mull.reports.slugs import slugs
from mull.reports.table import Table
from mull.runs.paper.kinds import lambda_of
from mull.runs.paper.published import PUBLISHED, benchmark_title, published_sweep
from mull.runs.plan import StudyKind

SUFFIXES = {"figures": (".svg", ".pdf"), "tables": (".tex", ".csv", ".parquet", ".md")}
_FRONTIER = (460, 300)
"""Pixels of a frontier, for 16 cm of print."""
_NARROW = (290, 290)
_INTERVALS = "±1.96 standard errors (95 %), clustered by question"


class Paper(NamedTuple):
    """What was written, and what the runs do not hold."""

    paths: list[Path]
    missing: list[Missing]
    incomplete: list[str]
    """Runs that have not all of their responses, by name."""


def write_paper(folders: Sequence[Path], out: Path, *, overlay: bool = True, reference: str | None = None) -> Paper:
    """Write `index.html`, `figures/` and `tables/` into `out` and return their paths, the page first.

    `overlay` adds the published values of Qwen3-4B. `reference` is the setting of sweeps and comparisons that
    differences are taken from, by default the highest λ. The folder appears as a whole, or not at all.

    Raises:
        MullError: runs that do not belong together (see `open_runs`), an unknown `reference`, or an `out` that cannot
            be written or holds something else.
    """
    studies = open_runs(folders)
    routed_tables = routing_tables(studies.routing) if studies.routing else []
    routed_figures = list(routing_figures(studies.routing)) if studies.routing else []
    tables = paper_tables(studies, overlay=overlay) + further_tables(studies, reference) + routed_tables
    figures = [*paper_figures(studies, overlay=overlay), *routed_figures]
    # Benchmarks are named by files and databases: their names may hold anything.
    tables = [replace(t, name=slug) for t, slug in zip(tables, slugs(t.name for t in tables), strict=True)]
    figures = [f._replace(name=slug) for f, slug in zip(figures, slugs(f.name for f in figures), strict=True)]
    lacking = missing(studies)
    incomplete = [run.name for run in studies.runs if not run.complete]
    with whole_folder(out) as partial:
        apart = (len(routed_figures), len(routed_tables))
        text = page(studies, figures, tables, lacking, SUFFIXES, routed=apart)
        paths = [_write(partial / "index.html", text.encode())]
        for figure in figures:
            chart = figure.draw("light", False)
            paths.append(_write(partial / "figures" / f"{figure.name}.svg", svg(chart, opaque=True).encode()))
            paths.append(_write(partial / "figures" / f"{figure.name}.pdf", pdf(chart)))
        for table in tables:
            for suffix in SUFFIXES["tables"]:
                paths.append(_write(partial / "tables" / f"{table.name}{suffix}", _encoded(table, suffix)))
    return Paper([out / path.relative_to(partial) for path in paths], lacking, incomplete)


def _write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, data)
    return path


def _encoded(table: Table, suffix: str) -> bytes:
    if suffix == ".tex":
        return latex(table).encode()
    if suffix == ".md":
        return markdown(table).encode()
    return csv(table) if suffix == ".csv" else parquet(table)


def paper_figures(studies: Studies, *, overlay: bool) -> Iterator[Drawn]:
    """Dynamics, frontiers, layers, modules, decoding, as far as the runs hold them."""
    swept = [
        Swept(arena, stages_of_samples([s for s in arena.samples if s.lam is not None]), published)
        for arena in studies.arenas
        if arena.sweep
        for published in [published_sweep(arena.benchmark)]
    ]
    if swept:
        yield Drawn(
            "dynamics",
            "Dynamics over λ",
            _dynamics_caption(swept, overlay),
            lambda variant, narrow: dynamics_figure(swept, variant, overlay=overlay, narrow=narrow),
        )
    for arena in studies.arenas:
        if len(arena.metrics) > 1:
            yield _frontier(arena)
    for kind in (StudyKind.layers, StudyKind.modules):
        yield from (_ablation(run, overlay) for run in studies.of(kind))
    yield from (_decoding(run, overlay) for run in studies.of(StudyKind.decoding))


def _dynamics_caption(swept: Sequence[Swept], overlay: bool) -> str:
    found = [column for column in swept if column.stages and column.stages.found]
    where = [f"{benchmark_title(c.arena.benchmark)}: {scope(c.arena)}." for c in swept]
    shade = " Shaded: stage 2, where Think #R rises." if found else ""
    dashed = ""
    if overlay and any(c.published for c in swept):
        dashed = f" Dashed: published for {PUBLISHED}."
    return (
        f"{' '.join(where)} Accuracies and Think #R in %, Token #N in tokens per response; bands: {_INTERVALS}."
        f"{shade}{dashed}"
    )


def _frontier(arena: Arena) -> Drawn:
    own = any(m.setting == OWN_INSTRUCT for m in arena.metrics)
    renamed = {m.setting: names.method_name(m.setting, m.lam, own) for m in arena.metrics}
    # λ stay as they are: the figure labels them by number.
    found = [m if m.lam is not None else replace(m, setting=renamed[m.setting]) for m in arena.metrics]
    samples = [s if s.lam is not None else replace(s, setting=renamed[s.setting]) for s in arena.samples]
    frontier = non_dominated(points_of(found), samples)
    return Drawn(
        f"frontier-{arena.benchmark}",
        f"Accuracy over tokens, {benchmark_title(arena.benchmark)}",
        f"{scope(arena)[:1].upper()}{scope(arena)[1:]}. Filled and joined: no other setting is better on both. The "
        f"dotted line joins the λ in their order; diamonds: other ways to merge. Bars: {_INTERVALS}.",
        lambda variant, narrow: frontier_figure(found, frontier, variant, _NARROW if narrow else _FRONTIER),
    )


def _ablation(run: Run, overlay: bool) -> Drawn:
    layers = run.kind == StudyKind.layers
    words = "some layers" if layers else "some kinds of module"
    around = "" if layers else " (w/o: the other way round)"
    return Drawn(
        f"{run.kind}-{run.benchmark}",
        f"λ in {words}, {benchmark_title(run.benchmark)}",
        f"λ = {lambda_of(run.plan):g} in the {run.kind} named, Instruct’s parameters elsewhere{around}; "
        f"{scope(run)}. Dashed: λ everywhere. Bars: {_INTERVALS}.",
        lambda variant, narrow: ablation_figure(run, variant, overlay=overlay, narrow=narrow),
    )


def _decoding(run: Run, overlay: bool) -> Drawn:
    return Drawn(
        f"decoding-{run.benchmark}",
        f"Temperature and top-p, {benchmark_title(run.benchmark)}",
        f"λ = {lambda_of(run.plan):g}; {scope(run)}. ± one standard error, clustered by question. "
        f"{spread_words(run, overlay=overlay)}".strip(),
        lambda variant, narrow: decoding_figure(run, variant, narrow=narrow),
    )
