"""`index.html`: every figure and table on one page that opens from disk, with links to their files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from mull import __version__
from mull.reports.figures.render import Figure
from mull.reports.figures.theme import Variant
from mull.reports.html.content import Contents, Incomplete, Link, Pairs, Paragraph, Section, Tabular, panels
from mull.reports.html.render import encode, render
from mull.reports.paper.missing import Missing
from mull.reports.paper.runs import Run, Studies
from mull.reports.routing.tables import conclusions
from mull.reports.table import Table
from mull.runs.plan import StudyKind


class Drawn(NamedTuple):
    """One figure of the page."""

    name: str
    """Of its files and its place on the page: there a slug (`mull.reports.slugs`)."""
    title: str
    caption: str
    draw: Callable[[Variant, bool], Figure]
    """Of a theme, wide or (True) narrow."""


def page(
    studies: Studies,
    figures: Sequence[Drawn],
    tables: Sequence[Table],
    lacking: Sequence[Missing],
    suffixes: dict,
    *,
    routed: tuple[int, int] = (0, 0),
) -> str:
    """The whole page as text. `suffixes`: "figures" and "tables" → the endings of their files. `routed`: of how many
    figures and tables, the last ones, λ per query is the subject; they stand in a part of their own."""
    runs = studies.runs
    pictures = [_figure(figure, suffixes["figures"]) for figure in figures]
    tabular = [_table(table, suffixes["tables"]) for table in tables]
    routing: list[Section] = []
    if studies.routing:
        told = Section("routing", "Does λ per query pay?", [Paragraph(line) for line in conclusions(studies.routing)])
        first, after = len(pictures) - routed[0], len(tabular) - routed[1]
        over_tokens = first + routed[1]  # a figure for each table, then the λ that each estimator chose
        routing = [told, *pictures[first:over_tokens], *tabular[after:], *pictures[over_tokens:]]
        pictures, tabular = pictures[:first], tabular[:after]
    also = [Section("runs", "The runs", [Pairs([(run.name, _what(run)) for run in runs])])]
    if lacking:
        commands = Pairs([(each.what, each.command) for each in lacking], code=True)
        also.insert(0, Section("missing", "What these runs do not hold", [commands]))
    groups = {"Figures": pictures, "Tables": tabular, "λ per query": routing, "Also": also}
    return render(
        "base.html",
        kind="paper",
        skip_to="figures",
        title=_pair(runs),
        scope=f"{len(runs)} run{'s' if len(runs) > 1 else ''} · {sum(len(run.samples) for run in runs):,} responses",
        incomplete=_incomplete(runs),
        contents=[Contents([(s.key, s.title) for s in found], head) for head, found in groups.items() if found],
        sections=[*pictures, *tabular, *routing, *also],
        footer=f"Made by mull {__version__}, after the figures and tables of Wu et al. 2025, “Revisiting Model "
        "Interpolation for Efficient Reasoning”, arXiv 2510.10977.",
        data=encode({"responses": []}),
    )


def _figure(drawn: Drawn, suffixes: Sequence[str]) -> Section:
    links = _links(f"figures/{drawn.name}", suffixes)
    figure = panels(
        f"svg-{drawn.name}-",
        lambda variant: [drawn.draw(variant, False), drawn.draw(variant, True)],
        [drawn.title] * 2,
        drawn.caption,
        versions=("wide-only", "narrow-only"),
        links=links,
    )
    return Section(drawn.name, drawn.title, [figure])


def _table(table: Table, suffixes: Sequence[str]) -> Section:
    note = Paragraph(table.legend, note=True, links=_links(f"tables/{table.name}", suffixes))
    return Section(f"table-{table.name}", table.title, [Tabular(table), note])


def _links(stem: str, suffixes: Sequence[str]) -> list[Link]:
    return [Link(stem + suffix, suffix.lstrip(".").upper()) for suffix in suffixes]


def _pair(runs: Sequence[Run]) -> str:
    names = [
        next((r.provenance[side] for r in runs if r.provenance.get(side)), None) for side in ("instruct", "thinking")
    ]
    short = [str(name) if name and str(name).count("/") == 1 else Path(str(name)).name for name in names if name]
    return " → ".join(short) or "Model interpolation"


def _what(run: Run) -> str:
    sampling = run.plan["sampling"]
    how = f"T = {sampling['temperature']:g}, top-p {sampling['top_p']:g}, top-k {sampling['top_k']}"
    how += f", at most {sampling['max_tokens']:,} tokens"
    started = str(run.provenance.get("started", ""))[:10]
    study = "λ per query" if run.kind == StudyKind.other else run.kind
    return (
        f"{study} on {run.benchmark}: {len(run.metrics)} settings × {run.questions:,} questions × {run.plan['k']} "
        f"samples; {how}; donor {run.plan.get('donor', 'the servers')}; {run.plan['engine']}; mull "
        f"{run.provenance.get('mull', '?')}, {started}"
    )


def _incomplete(runs: Sequence[Run]) -> Incomplete | None:
    names = [run.name for run in runs if not run.complete]
    if not names:
        return None
    return Incomplete(
        ", ".join(names),
        "The questions that two settings of a stopped run have both answered are those they answered briefly, which do "
        "not stand for all: differences have no intervals and no p, no value is marked as the best, and Pass@k is at "
        "the fewest samples that any question has.",
    )
