"""`index.html`: every figure and table on one page that opens from disk, with links to their files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import NamedTuple

from mull import __version__
from mull.reports.figures.render import Figure, inline_svg, resource
from mull.reports.figures.theme import Variant
from mull.reports.paper.missing import Missing
from mull.reports.paper.runs import Run, Studies
from mull.reports.renderers import html
from mull.reports.table import Table


class Drawn(NamedTuple):
    """One figure of the page."""

    name: str
    """Of its files and its place on the page: there a slug (`mull.reports.slugs`)."""
    title: str
    caption: str
    draw: Callable[[Variant], Figure]


def page(
    studies: Studies, figures: Sequence[Drawn], tables: Sequence[Table], lacking: Sequence[Missing], suffixes: dict
) -> str:
    """The whole page as text. `suffixes`: "figures" and "tables" → the endings of their files."""
    runs = studies.runs
    sections = [_section(f.name, f.title, _figure(f, suffixes["figures"])) for f in figures]
    sections += [_section(f"table-{t.name}", t.title, _table(t, suffixes["tables"])) for t in tables]
    contents = [_links_to("Figures", [(f.name, f.title) for f in figures])] if figures else []
    contents.append(_links_to("Tables", [(f"table-{t.name}", t.title) for t in tables]))
    others = [("runs", "The runs")]
    if lacking:
        sections.append(_section("missing", "What these runs do not hold", _lacking(lacking)))
        others.insert(0, ("missing", "What is missing"))
    sections.append(_section("runs", "The runs", _runs(runs)))
    return Template(resource("paper/paper.html")).substitute(
        css=resource("html/page.css"),
        js=resource("html/page.js"),
        title=escape(_pair(runs)),
        scope=f"{len(runs)} run{'s' if len(runs) > 1 else ''} · {sum(len(run.samples) for run in runs):,} responses",
        banner=_banner(runs),
        contents="\n".join([*contents, _links_to("Also", others)]),
        sections="\n".join(sections),
        footer=escape(
            f"Made by mull {__version__}, after the figures and tables of Wu et al. 2025, “Revisiting Model "
            "Interpolation for Efficient Reasoning”, arXiv 2510.10977."
        ),
    )


def _pair(runs: Sequence[Run]) -> str:
    names = [
        next((r.provenance[side] for r in runs if r.provenance.get(side)), None) for side in ("instruct", "thinking")
    ]
    short = [str(name) if name and str(name).count("/") == 1 else Path(str(name)).name for name in names if name]
    return " → ".join(short) or "Model interpolation"


def _links_to(head: str, places: Sequence[tuple[str, str]]) -> str:
    found = "".join(f'<li><a href="#{key}">{escape(title)}</a></li>' for key, title in places)
    return f"<ul><li><b>{head}</b></li>{found}</ul>"


def _section(key: str, title: str, body: str) -> str:
    # In front: behind, the heading of `frontier-a` would be the section of a benchmark called `a-title`.
    heading = f'<h2 id="title-{key}">{escape(title)}</h2>'
    return f'<section id="{key}" aria-labelledby="title-{key}">\n{heading}\n{body}\n</section>'


def _figure(drawn: Drawn, suffixes: Sequence[str]) -> str:
    variants = []
    for variant in ("light", "dark"):
        text = inline_svg(drawn.draw(variant), variant, name=f"svg-{drawn.name}-{variant}", label=drawn.title)
        variants.append(text.replace("<svg", f'<svg class="{variant}"', 1))
    caption = f"<figcaption>{escape(drawn.caption)} {_links(f'figures/{drawn.name}', suffixes)}</figcaption>"
    return f'<figure><div class="single">{"".join(variants)}</div>{caption}</figure>'


def _table(table: Table, suffixes: Sequence[str]) -> str:
    return f'{html(table)}<p class="note">{escape(table.legend)} {_links(f"tables/{table.name}", suffixes)}</p>'


def _links(stem: str, suffixes: Sequence[str]) -> str:
    return " · ".join(f'<a href="{escape(stem)}{suffix}">{suffix.lstrip(".").upper()}</a>' for suffix in suffixes)


def _lacking(lacking: Sequence[Missing]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(each.what)}</th><td><code>{escape(each.command)}</code></td></tr>'
        for each in lacking
    )
    return f'<table class="pairs"><tbody>{rows}</tbody></table>'


def _runs(runs: Sequence[Run]) -> str:
    rows = "".join(f'<tr><th scope="row">{escape(run.name)}</th><td>{escape(_what(run))}</td></tr>' for run in runs)
    return f'<table class="pairs"><tbody>{rows}</tbody></table>'


def _what(run: Run) -> str:
    sampling = run.plan["sampling"]
    how = f"T = {sampling['temperature']:g}, top-p {sampling['top_p']:g}, top-k {sampling['top_k']}"
    how += f", at most {sampling['max_tokens']:,} tokens"
    started = str(run.provenance.get("started", ""))[:10]
    return (
        f"{run.kind} on {run.benchmark}: {len(run.metrics)} settings × {run.questions:,} questions × {run.plan['k']} "
        f"samples; {how}; donor {run.plan.get('donor', 'the servers')}; {run.plan['engine']}; mull "
        f"{run.provenance.get('mull', '?')}, {started}"
    )


def _banner(runs: Sequence[Run]) -> str:
    names = [run.name for run in runs if not run.complete]
    if not names:
        return ""
    return (
        f'<p class="banner" role="note"><strong>Incomplete: {escape(", ".join(names))}.</strong> The '
        "questions that two settings of a stopped run have both answered are those they answered briefly, which do "
        "not stand for all: differences have no intervals and no p, no value is marked as the best, and Pass@k is at "
        "the fewest samples that any question has.</p>"
    )
