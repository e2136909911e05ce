"""The report as one HTML page that opens from disk: nothing is loaded, everything is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mull import __version__
from mull.analysis.comparable import coverage
from mull.analysis.tables import PublishedRow
from mull.reports.format import NONE, at, count, per_question, percent, setting_name
from mull.reports.html.content import Contents, Incomplete
from mull.reports.html.render import encode, render
from mull.reports.html.responses import MOST_BYTES, embed
from mull.reports.html.sections import findings, record
from mull.reports.results import Results


class Fact(NamedTuple):
    """One of the large figures at the top."""

    name: str
    big: str
    small: str


def page(results: Results, overlay: Sequence[PublishedRow] = (), most_bytes: int = MOST_BYTES) -> str:
    """The whole page as text. `overlay` are published rows for the Think #R figure; `most_bytes` caps the responses."""
    embedded = embed(results, most_bytes)
    sections = findings(results, overlay)
    links = [(section.key, section.title) for section in sections] + [("responses", "Responses"), ("record", "Plan")]
    return render(
        "report.html",
        kind="report",
        skip_to="findings",
        title=results.title,
        scope=_scope(results),
        incomplete=_incomplete(results),
        words=results.words,
        facts=list(_facts(results)),
        contents=[Contents(links)],
        sections=sections,
        embedded=embedded.words,
        record=record(results),
        footer=f"Made by mull {__version__}. Responses sampled from {results.provenance.get('started', NONE)}.",
        data=encode(embedded.data),
    )


def _scope(results: Results) -> str:
    n, k, settings = len(results.questions), results.plan["k"], len(results.plan["settings"])
    samples = "sample" if k == 1 else "samples"
    return f"{results.benchmark} · {n:,} questions × {k} {samples} × {settings} settings"


def _incomplete(results: Results) -> Incomplete | None:
    if results.complete:
        return None
    share = 100 * len(results.samples) / results.planned
    return Incomplete(
        f"{len(results.samples):,} of {results.planned:,} responses ({share:.0f} %)",
        "Settings may differ in which questions they have answered so far; comparisons pair the questions that both "
        f"have. {coverage(results.samples)}",
    )


def _facts(results: Results) -> Iterable[Fact]:
    best, stages = results.best, results.stages
    if stages and stages.fit and stages.fit.identified:
        limits = stages.intervals.get("midpoint")
        small = f"95 % interval {limits[0]:.3f} to {limits[1]:.3f}" if limits else "midpoint of the fit"
        yield Fact("Half of the rise of Think #R at", f"λ = {stages.fit.midpoint:.3f}", small)
    elif stages and stages.found and stages.boundaries:
        a, b = stages.boundaries
        yield Fact("Thinking sets in between", f"λ = {a:g} and {b:g}", "as finely as the grid can tell")
    elif results.sweep:
        yield Fact("Thinking sets in", "nowhere", "no transition was found")
    k = per_question(results.metrics)
    yield Fact(
        "Most accurate", setting_name(best).replace("λ ", "λ = "), f"{at('Mean', k)} {percent(best.mean_at_k)} %"
    )
    last = results.sweep[-1] if results.sweep else None
    if last and last is not best and last.tokens.value:
        change = 100 * (best.tokens.value / last.tokens.value - 1)
        small = f"tokens per response, {count(best.tokens)} against {count(last.tokens)}"
        yield Fact(f"Its cost against λ = {last.lam:g}", f"{change:+.0f} %".replace("-", "−"), small)
    else:
        yield Fact(
            "Its cost", f"{best.tokens.value:,.0f} tokens", f"per response, ± {count(best.tokens).split('± ')[1]}"
        )
    done = "all that were planned" if results.complete else f"of {results.planned:,} planned"
    yield Fact("Responses", f"{len(results.samples):,}", done)
