"""The sections of a run's report: what was found, then the plan and where the run comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mull.analysis.comparable import unthinking_end
from mull.analysis.tables import PublishedRow
from mull.reports.figures import charts
from mull.reports.format import at, common_k, count, per_question, percent, setting_name
from mull.reports.html.content import Details, Items, Pairs, Paragraph, Part, Section, Tabular, panels
from mull.reports.results import Results
from mull.reports.tables import (
    BY_STRATUM,
    differences_table,
    metrics_table,
    published_table,
    scores_table,
    stages_table,
)
from mull.runs.paper.published import LAYERS, PUBLISHED, benchmark_title, layer_count, published_setting
from mull.runs.plan import StudyKind

_PHONE = (330, 330)
"""Size of the frontier in pixels where the page is narrow."""
_BAND = "Bands: ±1.96 standard errors (95 %), clustered by question."


def findings(results: Results, overlay: Sequence[PublishedRow]) -> list[Section]:
    """The sections on what was found, those that this run has. `overlay` are published rows to show beside it.

    Of a benchmark of several, addresses begin with its own; its metrics are in the table of all."""
    found = [
        _stages(results, overlay),
        _frontier(results),
        None if results.part else _metrics(results),
        _scores(results),
        _published(results) if overlay else None,
        _differences(results),
        _strata(results),
    ]
    return [replace(section, key=f"{results.part}{section.key}") for section in found if section]


def record(results: Results) -> Section:
    """The plan and the provenance on record."""
    plan = {key: value for key, value in results.plan.items() if key != "settings"}
    settings = {"settings": ", ".join(results.plan["settings"])}
    title = "The plan: what decides the samples (weights and questions by hash)"
    pairs = [Pairs(_flat(settings | plan), title), Pairs(_flat(results.provenance), "Provenance")]
    return Section("record", "Plan and provenance", pairs)


def _stages(results: Results, overlay: Sequence[PublishedRow]) -> Section | None:
    if not results.sweep or results.stages is None:
        return None
    how = "the grid rule" if results.stages.grid else "the fit"
    shade = f"Shaded: stage 2, where Think #R rises, by {how}. " if results.stages.found else ""
    dashed = "Dashed: published Think #R of Qwen3-4B on this benchmark (Wu et al. 2025). " if overlay else ""
    figure = panels(
        f"{results.part}stages",
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
    reason, table = results.stages.reason, stages_table(results.stages)
    lead = f"{reason[:1].upper()}{reason[1:]}." if results.stages.found else f"No transition was found: {reason}."
    unthinking = unthinking_end(results.metrics)
    parts = [figure, Paragraph(f"{lead} {unthinking}".strip()), Tabular(table)]
    return Section("stages", "The three stages", parts if table.rows else parts[:-1])


def _frontier(results: Results) -> Section:
    by_setting = {m.setting: setting_name(m) for m in results.metrics}
    names = ", ".join(by_setting[p.setting] for p in results.frontier.points)
    figure = panels(
        f"{results.part}frontier",
        lambda v: [
            charts.frontier_figure(results.metrics, results.frontier, v),
            charts.frontier_figure(results.metrics, results.frontier, v, _PHONE),
        ],
        [f"Accuracy over tokens. On the frontier: {names}"] * 2,
        "Filled and joined: settings that no other one beats on both accuracy and tokens. The dotted line joins the λ "
        "in their order. Bars: ±1.96 standard errors (95 %), clustered by question.",
        versions=("wide-only", "narrow-only"),
    )
    lead = f"On the frontier, by rising tokens: {names}. No other setting is at least as accurate for as few tokens."
    near = [
        f"{by_setting[n.point.setting]} is within one standard error of {by_setting[n.dominated_by]}: "
        f"{n.note.partition(': ')[2]}"
        for n in results.frontier.near
    ]
    parts: list[Part] = [figure, Paragraph(lead)]
    return Section(
        "frontier",
        "Accuracy over tokens",
        [*parts, Details("Beaten, but within the error", [Items(near)])] if near else parts,
    )


def _metrics(results: Results) -> Section:
    each, k = per_question(results.metrics), common_k(results.metrics)
    note = (
        f"Values ± one standard error, clustered by question. {at('Mean', each)}: mean correctness of all samples. "
        f"{at('Pass', k)}: chance that one of k samples is right (unbiased estimate). {at('Vote', each)}: the majority "
        "answer is right, ties counted by their expected value. Think #R: share of responses with </think>. Token #N: "
        "generated tokens per response, thought included. Cut off: the response hit the token limit. No answer: the "
        "grader found none in it. ● marks the frontier."
    )
    if results.parts:
        note += " The average gives every benchmark the same weight, whatever the number of its questions."
    return Section("metrics", "All metrics", [Tabular(results.table), Paragraph(note, note=True)])


def _scores(results: Results) -> Section | None:
    # What graders say further differs between benchmarks: each has its own table.
    table = None if results.parts else scores_table(results.samples, results.metrics)
    note = (
        "Values ± one standard error, clustered by question. Completed only: Mean@k over the responses that ended by "
        "themselves, which are other ones at each setting. Unclosed as it stands: a thought that was cut off counts as "
        "right where the right answer stands in it."
    )
    return Section("scores", "Further scores", [Tabular(table), Paragraph(note, note=True)]) if table else None


def _published(results: Results) -> Section | None:
    beside = {m.setting: published_setting(results.plan, m.setting) for m in results.metrics}
    rows = {setting: row for setting, row in beside.items() if row}
    if not rows:
        return None
    where = ", ".join(dict.fromkeys(benchmark_title(row.benchmark) for row in rows.values()))
    layers = StudyKind(results.plan["study"]) == StudyKind.layers and layer_count(results.plan) != LAYERS
    share = f"; the same share of its {LAYERS} layers" if layers else ""
    note = Paragraph(f"Published: {PUBLISHED}, on {where}, at this λ{share}.", note=True)
    return Section(
        "published", "Beside the published ablation", [Tabular(published_table(results.metrics, rows)), note]
    )


def _differences(results: Results) -> Section | None:
    if not results.to_last:
        return None
    reference = results.to_last[0].reference
    name = next(setting_name(m) for m in results.metrics if m.setting == reference)
    intervals = (
        "with 95 % intervals (paired by question, Student's t). A tie: the interval holds 0. Each row is judged by "
        "itself; of many comparisons, one in twenty between equals differs by chance. p: of no difference in accuracy, "
        "corrected for their number by Holm’s method."
    )
    stopped = (
        "without intervals and p: what two settings of a run that stopped have both answered they answered briefly."
    )
    note, complete = (
        f"Differences on the same questions, {intervals if results.complete else stopped}",
        results.complete,
    )
    each = "λ" if all(m.lam is not None for m in results.metrics) else "setting"
    title, best = f"Each {each} minus {name}", results.best.setting
    parts: list[Part] = [
        Paragraph(note, note=True),
        Tabular(
            differences_table(results.to_last, results.metrics, title=title, best=best, complete=complete), titled=True
        ),
    ]
    if results.neighbours:
        lower = "Each λ minus the next lower one"
        lower = differences_table(results.neighbours, results.metrics, title=lower, complete=complete)
        parts.append(Details("Neighbours on the grid", [Tabular(lower, titled=True)]))
    return Section("differences", "Differences and ties", parts)


def _strata(results: Results) -> Section | None:
    if not results.strata:
        return None
    table = metrics_table(results.benchmark, results.strata, None).select(*BY_STRATUM)
    parts: list[Part] = [Details("Table by difficulty", [Tabular(table)])]
    if results.sweep:
        names = ", ".join(list(results.strata)[: charts.MOST_STRATA])
        dropped = len(results.strata) - charts.MOST_STRATA
        shade = " Shaded: stage 2 of all questions together." if results.stages and results.stages.found else ""
        more = f" {dropped} further classes are in the table only." if dropped > 0 else ""
        figure = panels(
            f"{results.part}strata",
            lambda variant: charts.strata_panels(results.strata, results.stages, variant),
            [f"{what} against λ for {names}" for what in ("Accuracy", "Share that thinks", "Tokens per response")],
            _BAND + shade + more,
        )
        parts.insert(0, figure)
    return Section("difficulty", "By difficulty", parts)


def _flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows = []
    for key, item in value.items():
        if isinstance(item, Mapping):
            rows += _flat(item, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", ", ".join(map(str, item)) if isinstance(item, list) else str(item)))
    return rows


def _curve_label(what: str, results: Results, value: Callable) -> str:
    return f"{what}: " + "; ".join(f"{value(m)} at {m.lam:g}" for m in results.sweep)
