"""The report as one HTML page that opens from disk: nothing is loaded, everything is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

from mull import __version__
from mull.analysis.comparable import coverage
from mull.analysis.paired import PairedDifference
from mull.analysis.tables import PublishedRow
from mull.benchmarks.several import AVERAGE
from mull.reports.answer import Answer, answer
from mull.reports.format import NONE, at, count, per_question, percent, setting_name, signed
from mull.reports.html.content import Contents, Incomplete, Section
from mull.reports.html.render import encode, render
from mull.reports.html.responses import MOST_BYTES, embed
from mull.reports.html.sections import findings, record
from mull.reports.results import Results
from mull.reports.table import points
from mull.words import listed

Overlays = Mapping[str, Sequence[PublishedRow]]


class Fact(NamedTuple):
    """One of the large figures at the top."""

    name: str
    big: str
    small: str


def page(results: Results, overlays: Overlays = MappingProxyType({}), most_bytes: int = MOST_BYTES) -> str:
    """The whole page as text. `overlays`: benchmark → published rows for the Think #R figure; `most_bytes` caps the
    responses."""
    embedded = embed(results, most_bytes)
    sections, found = findings(results, overlays.get(results.benchmark, ())), answer(results)
    rest = [("responses", "Responses"), ("record", "Plan")]
    contents = [Contents([*_links(sections), *([] if results.parts else rest)], AVERAGE if results.parts else "")]
    for name, part in results.parts.items():
        own = findings(part, overlays.get(name, ()))
        contents.append(Contents(_links(own), name))
        sections += [replace(section, title=f"{name}: {section.title}") for section in own]
    contents += [Contents(rest)] if results.parts else []
    return render(
        "report.html",
        kind="report",
        skip_to="findings",
        title=results.title,
        scope=_scope(results),
        incomplete=_incomplete(results),
        words=results.words,
        facts=list(_facts(results, found)),
        command=found.command if found else "",
        contents=contents,
        sections=sections,
        embedded=embedded.words,
        record=record(results),
        footer=f"Made by mull {__version__}. Responses sampled from {results.provenance.get('started', NONE)}.",
        data=encode(embedded.data),
    )


def _links(sections: Sequence[Section]) -> list[tuple[str, str]]:
    return [(section.key, section.title) for section in sections]


def _scope(results: Results) -> str:
    n, k, settings = len(results.questions), results.plan["k"], len(results.plan["settings"])
    samples = "sample" if k == 1 else "samples"
    benchmark = f"average of {listed(list(results.parts))}" if results.parts else results.benchmark
    return f"{benchmark} · {n:,} questions × {k} {samples} × {settings} settings"


def _incomplete(results: Results) -> Incomplete | None:
    if results.complete:
        return None
    share = 100 * len(results.samples) / results.planned
    return Incomplete(
        f"{len(results.samples):,} of {results.planned:,} responses ({share:.0f} %)",
        "Settings may differ in which questions they have answered so far; comparisons pair the questions that both "
        f"have. {coverage(results.samples)}",
    )


def _facts(results: Results, found: Answer | None) -> Iterable[Fact]:
    if found is None:
        yield from _of_a_study(results)
    elif found.pick is None:
        yield Fact("Recommended λ", "none", found.reason)
    else:
        pick, last = found.pick, f"λ = {found.last.lam:g}"
        k = per_question(results.metrics)
        yield Fact("Recommended", f"λ = {pick.lam:g}", found.reason)
        accuracy, tokens = f"{percent(pick.mean_at_k)} %", f"{pick.tokens.value:,.0f}"
        if found.against is None:
            yield Fact(f"Accuracy ({at('Mean', k)})", accuracy, "no smaller λ is as accurate, or cheaper within error")
            yield Fact("Tokens per response", tokens, f"± {count(pick.tokens).split('± ')[1]}")
        else:
            gain, cost = found.against.accuracy, found.against.tokens
            change = signed(100 * cost.difference / found.last.tokens.value, 0) + " %"
            only = "" if results.complete else ", so far"
            yield Fact(f"Accuracy ({at('Mean', k)})", accuracy, _points(gain, last, only))
            than = f"{last}, which takes {count(found.last.tokens)}"
            yield Fact("Tokens per response", tokens, f"{change} against {than}")
    done = "all that were planned" if results.complete else f"of {results.planned:,} planned"
    yield Fact("Responses", f"{len(results.samples):,}", done)


def _points(gain: PairedDifference, last: str, only: str) -> str:
    """The gain against `last`, with its interval unless the run is incomplete."""
    found, _, interval = points(gain).partition(" [")
    return f"{found} points against {last}{only or (f', 95 % interval [{interval}' if interval else '')}"


def _of_a_study(results: Results) -> Iterable[Fact]:
    best, k = results.best, per_question(results.metrics)
    if results.nothing_right:
        yield Fact("Most accurate", "none", "no response is right at any setting")
        return
    yield Fact("Most accurate", setting_name(best), f"{at('Mean', k)} {percent(best.mean_at_k)} %")
    yield Fact("Its tokens per response", f"{best.tokens.value:,.0f}", f"± {count(best.tokens).split('± ')[1]}")
