"""The report as one HTML page that opens from disk: nothing is loaded, everything is escaped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from string import Template
from typing import Any

from mull import __version__
from mull.analysis.comparable import coverage
from mull.analysis.tables import PublishedRow
from mull.reports.figures import charts
from mull.reports.figures.render import Figure, inline_svg, resource, size
from mull.reports.figures.theme import Variant
from mull.reports.format import NONE, at, common_k, count, per_question, percent, setting_name
from mull.reports.html.responses import MOST_BYTES, embed, encode
from mull.reports.html.tables import frontier_table, pairs_table, published_rows
from mull.reports.renderers import html
from mull.reports.results import Results
from mull.reports.tables import (
    BY_STRATUM,
    differences_table,
    metrics_table,
    published_table,
    scores_table,
    stages_table,
)
from mull.runs.paper.published import LAYERS, PUBLISHED, benchmark_title, layer_count
from mull.runs.plan import StudyKind

_PHONE = (330, 330)
"""Size of the frontier in pixels where the page is narrow."""
_BAND = "Bands: ±1.96 standard errors (95 %), clustered by question."


def page(results: Results, overlay: Sequence[PublishedRow] = (), most_bytes: int = MOST_BYTES) -> str:
    """The whole page as text. `overlay` are published rows for the Think #R figure; `most_bytes` caps the responses."""
    sections = list(filter(None, (_stages(results, overlay), _frontier(results), _metrics(results))))
    further = (_scores(results), _published(results, overlay), _differences(results), _strata(results))
    sections += list(filter(None, further))
    links = [(key, title) for key, title, _ in sections] + [("responses", "Responses"), ("record", "Plan")]
    embedded = embed(results, most_bytes)
    return Template(resource("html/page.html")).substitute(
        css=resource("html/page.css"),
        js=resource("html/page.js"),
        title=escape(results.title),
        benchmark=escape(_scope(results)),
        banner=_banner(results),
        words=_prose(results.words),
        facts="\n".join(_facts(results)),
        contents="\n".join(f'<li><a href="#{key}">{escape(title)}</a></li>' for key, title in links),
        sections="\n".join(_section(*section) for section in sections),
        embedded=escape(embedded.words),
        record=_record(results),
        footer=escape(f"Made by mull {__version__}. Responses sampled from {results.provenance.get('started', NONE)}."),
        data=encode(embedded.data),
    )


def _section(key: str, title: str, body: str) -> str:
    heading = f'<h2 id="{key}-title">{escape(title)}</h2>'
    return f'<section id="{key}" aria-labelledby="{key}-title">\n{heading}\n{body}\n</section>'


def _scope(results: Results) -> str:
    n, k, settings = len(results.questions), results.plan["k"], len(results.plan["settings"])
    samples = "sample" if k == 1 else "samples"
    return f"{results.benchmark} · {n:,} questions × {k} {samples} × {settings} settings"


def _banner(results: Results) -> str:
    if results.complete:
        return ""
    share = 100 * len(results.samples) / results.planned
    return (
        f'<p class="banner" role="note"><strong>Incomplete: {len(results.samples):,} of {results.planned:,} responses '
        f"({share:.0f} %).</strong> Settings may differ in which questions they have answered so far; comparisons "
        f"pair the questions that both have. {escape(coverage(results.samples))}</p>"
    )


def _facts(results: Results) -> Iterable[str]:
    def fact(name: str, big: str, small: str) -> str:
        return (
            f'<div><dt>{escape(name)}</dt><dd><span class="big">{escape(big)}</span>'
            f'<span class="small">{escape(small)}</span></dd></div>'
        )

    best, stages = results.best, results.stages
    if stages and stages.fit and stages.fit.identified:
        limits = stages.intervals.get("midpoint")
        small = f"95 % interval {limits[0]:.3f} to {limits[1]:.3f}" if limits else "midpoint of the fit"
        yield fact("Half of the rise of Think #R at", f"λ = {stages.fit.midpoint:.3f}", small)
    elif stages and stages.found and stages.boundaries:
        a, b = stages.boundaries
        yield fact("Thinking sets in between", f"λ = {a:g} and {b:g}", "as finely as the grid can tell")
    elif results.sweep:
        yield fact("Thinking sets in", "nowhere", "no transition was found")
    k = per_question(results.metrics)
    yield fact(
        "Most accurate", setting_name(best).replace("λ ", "λ = "), f"{at('Mean', k)} {percent(best.mean_at_k)} %"
    )
    last = results.sweep[-1] if results.sweep else None
    if last and last is not best and last.tokens.value:
        change = 100 * (best.tokens.value / last.tokens.value - 1)
        small = f"tokens per response, {count(best.tokens)} against {count(last.tokens)}"
        yield fact(f"Its cost against λ = {last.lam:g}", f"{change:+.0f} %".replace("-", "−"), small)
    else:
        yield fact(
            "Its cost", f"{best.tokens.value:,.0f} tokens", f"per response, ± {count(best.tokens).split('± ')[1]}"
        )
    done = "all that were planned" if results.complete else f"of {results.planned:,} planned"
    yield fact("Responses", f"{len(results.samples):,}", done)


def _panels(
    name: str,
    make: Callable[[Variant], Sequence[Figure]],
    labels: Sequence[str],
    caption: str,
    one_of: Sequence[str] = (),
) -> str:
    """Figures side by side at one scale, each in both themes, of which the page shows one.

    With `one_of`, a class for each, they are versions of one figure."""
    variants: list[list[str]] = []
    for variant in ("light", "dark"):
        drawn = zip(make(variant), labels, strict=True)
        found = [inline_svg(f, variant, name=f"{name}{i}-{variant}", label=label) for i, (f, label) in enumerate(drawn)]
        variants.append([text.replace("<svg", f'<svg class="{variant}"', 1) for text in found])
    # Growing in proportion to their widths, all panels are drawn at one scale.
    boxes = [
        f'<div class="{one_of[i]}">{light}{dark}</div>'
        if one_of
        else f'<div style="flex: {size(light)[0]:.0f} 1 0">{light}{dark}</div>'
        for i, (light, dark) in enumerate(zip(*variants, strict=True))
    ]
    kind = "single" if one_of else "panels"
    caption = f"<figcaption>{escape(caption)}</figcaption>"
    return f'<figure><div class="{kind}">{"".join(boxes)}</div>{caption}</figure>'


def _stages(results: Results, overlay: Sequence[PublishedRow]) -> tuple[str, str, str] | None:
    if not results.sweep or results.stages is None:
        return None
    how = "the grid rule" if results.stages.grid else "the fit"
    shade = f"Shaded: stage 2, where Think #R rises, by {how}. " if results.stages.found else ""
    dashed = "Dashed: published Think #R of Qwen3-4B on three benchmarks (Wu et al. 2025). " if overlay else ""
    figure = _panels(
        "stages",
        lambda variant: charts.stage_panels(results.metrics, results.stages, variant, overlay),
        [
            _curve_label("Performance in percent against λ", results, lambda m: percent(m.mean_at_k)),
            _curve_label(
                "Share of responses that think, in percent, against λ", results, lambda m: percent(m.think_ratio)
            ),
            _curve_label("Mean tokens per response against λ", results, lambda m: count(m.tokens)),
        ],
        f"{shade}{_BAND} {dashed}".strip(),
    )
    found = html(table) if (table := stages_table(results.stages)).rows else ""
    reason = results.stages.reason
    lead = f"{reason[:1].upper()}{reason[1:]}." if results.stages.found else f"No transition was found: {reason}."
    return "stages", "The three stages", f"{figure}<p>{_prose(lead)}</p>{found}"


def _frontier(results: Results) -> tuple[str, str, str]:
    points = results.frontier.points
    by_setting = {m.setting: setting_name(m) for m in results.metrics}
    names = ", ".join(by_setting[p.setting] for p in points)
    label = f"Accuracy over tokens. On the frontier: {names}"
    caption = (
        "Filled and joined: settings that no other one beats on both accuracy and tokens. The dotted line joins the λ "
        "in their order. Bars: ±1.96 standard errors (95 %), clustered by question."
    )
    figure = _panels(
        "frontier",
        lambda v: [
            charts.frontier_figure(results.metrics, results.frontier, v),
            charts.frontier_figure(results.metrics, results.frontier, v, _PHONE),
        ],
        [label, label],
        caption,
        one_of=("wide-only", "narrow-only"),
    )
    lead = (
        f"<p>On the frontier, by rising tokens: {_prose(names)}. "
        "No other setting is at least as accurate for as few tokens.</p>"
    )
    return "frontier", "Accuracy over tokens", figure + lead + frontier_table(results)


def _metrics(results: Results) -> tuple[str, str, str]:
    each, k = per_question(results.metrics), common_k(results.metrics)
    note = (
        f"Values ± one standard error, clustered by question. {at('Mean', each)}: mean correctness of all samples. "
        f"{at('Pass', k)}: chance that one of k samples is right (unbiased estimate). {at('Vote', each)}: the majority "
        "answer is right, ties counted by their expected value. Think #R: share of responses with </think>. Token #N: "
        "generated tokens per response, thought included. Cut off: the response hit the token limit. No answer: the "
        "grader found none in it. ● marks the frontier."
    )
    table = html(metrics_table(results.benchmark, {"": results.metrics}, results.frontier))
    return "metrics", "All metrics", f'{table}<p class="note">{escape(note)}</p>'


def _scores(results: Results) -> tuple[str, str, str] | None:
    table = scores_table(results.samples, results.metrics)
    note = (
        "Values ± one standard error, clustered by question. Completed only: Mean@k over the responses that ended by "
        "themselves, which are other ones at each setting. Unclosed as it stands: a thought that was cut off counts as "
        "right where the right answer stands in it."
    )
    return ("scores", "Further scores", f'{html(table)}<p class="note">{note}</p>') if table else None


def _published(results: Results, overlay: Sequence[PublishedRow]) -> tuple[str, str, str] | None:
    rows = published_rows(results) if overlay else {}
    if not rows:
        return None
    where = ", ".join(dict.fromkeys(benchmark_title(row.benchmark) for row in rows.values()))
    layers = StudyKind(results.plan["study"]) == StudyKind.layers and layer_count(results.plan) != LAYERS
    share = f"; the same share of its {LAYERS} layers" if layers else ""
    note = escape(f"Published: {PUBLISHED}, on {where}, at this λ{share}.")
    return (
        "published",
        "Beside the published ablation",
        f'{html(published_table(results.metrics, rows))}<p class="note">{note}</p>',
    )


def _differences(results: Results) -> tuple[str, str, str] | None:
    if not results.to_last:
        return None
    reference = results.to_last[0].reference
    name = next(setting_name(m) for m in results.metrics if m.setting == reference)
    note = (
        "Differences on the same questions, with 95 % intervals (paired by question, Student's t). A tie: the interval "
        "holds 0. Each row is judged by itself; of many comparisons, one in twenty between equals differs by chance. "
        "p: of no difference in accuracy, corrected for their number by Holm’s method."
    )
    each = "λ" if all(m.lam is not None for m in results.metrics) else "setting"
    title, best = f"Each {each} minus {name}", results.best.setting
    body = html(differences_table(results.to_last, results.metrics, title=title, best=best), titled=True)
    lower = "Each λ minus the next lower one"
    more = (
        html(differences_table(results.neighbours, results.metrics, title=lower), titled=True)
        if results.neighbours
        else ""
    )
    return (
        "differences",
        "Differences and ties",
        f'<p class="note">{escape(note)}</p>{body}'
        + (f"<details><summary>Neighbours on the grid</summary>{more}</details>" if more else ""),
    )


def _strata(results: Results) -> tuple[str, str, str] | None:
    if not results.strata:
        return None
    body = ""
    if results.sweep:
        names = ", ".join(list(results.strata)[: charts.MOST_STRATA])
        labels = [f"{what} against λ for {names}" for what in ("Accuracy", "Share that thinks", "Tokens per response")]
        dropped = len(results.strata) - charts.MOST_STRATA
        more = f" {dropped} further classes are in the table only." if dropped > 0 else ""
        body = _panels(
            "strata",
            lambda variant: charts.strata_panels(results.strata, results.stages, variant),
            labels,
            f"{_BAND} Shaded: stage 2 of all questions together.{more}"
            if results.stages and results.stages.found
            else _BAND + more,
        )
    table = html(metrics_table(results.benchmark, results.strata, None).select(*BY_STRATUM))
    return "difficulty", "By difficulty", f"{body}<details><summary>Table by difficulty</summary>{table}</details>"


def _record(results: Results) -> str:
    plan = {key: value for key, value in results.plan.items() if key != "settings"}
    settings = {"settings": ", ".join(results.plan["settings"])}
    plan_table = pairs_table(
        _flat(settings | plan), "The plan: what decides the samples (weights and questions by hash)"
    )
    return plan_table + pairs_table(_flat(results.provenance), "Provenance")


def _flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows = []
    for key, item in value.items():
        if isinstance(item, Mapping):
            rows += _flat(item, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", ", ".join(map(str, item)) if isinstance(item, list) else str(item)))
    return rows


def _prose(text: str) -> str:
    """Escaped, and kept from breaking inside `λ = 0.5` and `95 %`."""
    return escape(text).replace("λ = ", "λ\u00a0=\u00a0").replace(" %", "\u00a0%").replace(" ± ", "\u00a0±\u00a0")


def _curve_label(what: str, results: Results, value: Callable) -> str:
    return f"{what}: " + "; ".join(f"{value(m)} at {m.lam:g}" for m in results.sweep)
