"""The tables of one run, built once for the terminal, the page and the files. Knows figures, no markup."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mull.analysis.frontier import Frontier
from mull.analysis.metrics import KINDS, SettingMetrics
from mull.analysis.paired import Contrast
from mull.analysis.records import Sample
from mull.analysis.scores import names_of_scores, scores_by_setting
from mull.analysis.stages import Stages
from mull.analysis.tables import PublishedRow
from mull.benchmarks.several import AVERAGE
from mull.reports.format import at, common_k, per_question, setting_name, verdict
from mull.reports.table import Cell, Column, Row, Table

DIFFERENCES = "95 % intervals, paired by question; p: of no difference in accuracy, corrected by Holm's method"
ERRORS = "± one standard error, clustered by question"
BRIEF = ("mean_at_k", "pass_at_k", "vote_at_k", "think_ratio", "tokens", "truncation")
"""What a terminal has room for of `metrics_table`."""
BY_STRATUM = (*BRIEF[:-1], "samples")
"""What a page shows of it by difficulty."""
_ODD = ("unclosed", "pseudo-closed")
"""Kinds of thinking that are shown where some response is of them; of the others Think #R says enough."""


def metrics_table(benchmark: str, groups: Mapping[str, Sequence[SettingMetrics]], frontier: Frontier | None) -> Table:
    """One row per setting with every metric; those of the `frontier` stand out.

    `groups` maps a stratum's name (empty: all questions) to its settings. `mull stages` reads the data frame as CSV.
    """
    title = len(groups) > 1
    sections = []
    for stratum, group in groups.items():
        asked = max((m.questions for m in group), default=0)
        section = f"{stratum or '(none)'} · {asked:,} questions" if title else ""
        sections.append((benchmark, stratum, section, group))
    table = _metrics_table(sections, frontier)
    return replace(table, name="strata", title="Metrics by difficulty") if title else table


def benchmarks_table(groups: Mapping[str, Sequence[SettingMetrics]], frontier: Frontier | None) -> Table:
    """The same of several benchmarks by name, the average among them first; the `frontier` is the average's."""
    count = len(groups) - 1
    heads = {AVERAGE: f"{AVERAGE} of {count} benchmarks"}
    sections = []
    for name, group in groups.items():
        asked = max((m.questions for m in group), default=0)
        sections.append((name, "", heads.get(name, f"{name} · {asked:,} questions"), group))
    table = _metrics_table(sections, frontier, starred=AVERAGE)
    return replace(table, caption=f"{table.caption}; average: every benchmark has the same weight")


def _metrics_table(
    sections: Sequence[tuple[str, str, str, Sequence[SettingMetrics]]], frontier: Frontier | None, starred: str = ""
) -> Table:
    """`sections`: benchmark, stratum, title and settings. `starred`: the benchmark of the `frontier`; empty: all."""
    found = [m for *_, group in sections for m in group]
    each, k = per_question(found), common_k(found)
    best = {point.setting for point in frontier.points} if frontier else set()
    caption = f"{ERRORS}; ● no other setting beats it on both" if best else ERRORS
    odd = {kind: kind in _ODD and any(m.thinking[kind].value for m in found) for kind in KINDS}
    columns = [
        _data("benchmark", decimals=None), _data("stratum", decimals=None), _data("lambda", decimals=3),
        _data("questions"), _data("k"),
        # The most important first: a narrow terminal or phone shows the columns on the left.
        _share("mean_at_k", at("Mean", each)),
        _count("tokens", "Token #N"),
        _share("think_ratio", "Think #R"),
        # With one sample per question these repeat Mean@k.
        _share("pass_at_k", at("Pass", k), shown=k != 1),
        _share("vote_at_k", at("Vote", each), shown=each != 1),
        _count("tokens_p95", "95th percentile"),
        _share("truncation", "cut off"), _share("unanswered", "no answer"),
        _share("unparsed", "unparsed"),  # no answer, or one that the grader could not read
        *(_share(_kind(kind), kind, shown=odd[kind]) for kind in KINDS),
        Column(key="samples", head="responses", decimals=0),
    ]  # fmt: skip
    shown = _names(found)

    def row(benchmark: str, stratum: str, section: str, m: SettingMetrics) -> Row:
        return Row(
            shown[m.setting],
            [
                benchmark, stratum, Cell(math.nan if m.lam is None else float(m.lam)), Cell(m.questions), Cell(m.k),
                *map(Cell.of, (m.mean_at_k, m.tokens, m.think_ratio)),
                Cell.of(m.pass_at_k, note=f"(k = {m.k})" if k is None else ""),
                *map(Cell.of, (m.vote_at_k, m.tokens_p95, m.truncation, m.unanswered, m.unparsed)),
                *(Cell.of(m.thinking[kind]) for kind in KINDS),
                Cell(m.samples),
            ],
            section,
            m.setting,
            m.setting in best and starred in ("", benchmark),
        )  # fmt: skip

    return Table(
        name="metrics",
        title="Metrics of every setting",
        caption=caption,
        head=_head(found),
        key="setting",
        columns=columns,
        rows=[row(name, stratum, head, m) for name, stratum, head, group in sections for m in group],
        section_is_data=False,
    )


def scores_table(samples: Sequence[Sample], metrics: Sequence[SettingMetrics]) -> Table | None:
    """What the graders say beyond right and wrong, one row per setting; None where they say nothing."""
    found = scores_by_setting(samples)
    if not found:
        return None
    heads, names = names_of_scores(found), _names(metrics)
    return Table(
        name="scores",
        title="Further scores",
        caption=ERRORS,
        head=_head(metrics),
        key="setting",
        columns=[_share(head.replace(",", "").replace(" ", "_"), head) for head in heads],
        rows=[
            Row(names[setting], [Cell.of(own[head]) if head in own else Cell() for head in heads], key=setting)
            for setting, own in found.items()
        ],
    )


def differences_table(
    found: Sequence[Contrast],
    metrics: Sequence[SettingMetrics],
    *,
    name: str = "contrasts",
    title: str = "",
    best: str | None = None,
    complete: bool = True,
) -> Table:
    """Settings less others, paired by question, with verdicts. `best` is called the most accurate.

    Where all have one reference, the head names it; else each row does. A run that is not `complete` has differences
    alone: what two of its settings have both answered so far is what they answered briefly.
    """
    names, references = _names(metrics), {each.reference for each in found}
    one = len(references) == 1
    head = f"less {found[0].reference}" if one else "difference"
    rows = []
    for each in found:
        shown = names[each.setting] if one else f"{names[each.setting]} − {names[each.reference]}"
        shown += " (most accurate)" if each.setting == best else ""
        rows.append(Row(shown, difference_cells(each, complete), key=each.setting))
    caption = DIFFERENCES if complete else f"{DIFFERENCES}; the run is incomplete: neither interval nor p"
    return Table(
        name=name,
        title=title or head,
        caption=caption,
        head=head,
        key="setting",
        columns=difference_columns(),
        rows=rows,
    )


def difference_columns() -> list[Column]:
    """Of what `difference_cells` gives."""
    return [
        _data("reference", decimals=None),
        Column(key="accuracy", head="accuracy, points", scale=100, signed=True),
        Column(key="p_value", head="p", decimals=3, least=0.001),
        Column(key="verdict", head="", decimals=None, tones=_TONES),
        Column(key="tokens", head="tokens", decimals=0, signed=True),
        Column(key="tokens_verdict", head="", decimals=None, tones=_TONES),
        Column(key="questions", head="questions", decimals=0),
    ]


def difference_cells(each: Contrast, complete: bool = True) -> list[Cell | str]:
    """One comparison; of a run that is not `complete` without intervals, p-value and verdicts."""
    questions = Cell(each.accuracy.questions)
    if not complete:
        values = Cell(each.accuracy.difference), Cell(each.tokens.difference)
        return [each.reference, values[0], Cell(), "", values[1], "", questions]
    return [
        each.reference,
        Cell.difference(each.accuracy),
        Cell(math.nan if each.accuracy.alike else each.p_value),
        verdict(each.accuracy, "higher", "lower"),
        Cell.difference(each.tokens),
        verdict(each.tokens, "more", "fewer"),
        questions,
    ]


_TONES = {"higher": "up", "lower": "down", "fewer": "up", "more": "down", "tie": "tie", "unknown": "tie"}


def cost_table(sections: Sequence[tuple[str, Mapping[str, SettingMetrics], Sequence[Sample]]]) -> Table:
    """Tokens and seconds per response and per right answer. `sections`: title, name → metrics, samples."""
    rows = []
    for title, named, samples in sections:
        for name, m in named.items():
            own = [sample for sample in samples if sample.setting == m.setting]
            tokens, seconds = sum(s.tokens for s in own), float(sum(s.seconds for s in own))
            right = sum(s.correct for s in own) or math.nan
            cells = [
                Cell(len(own)), Cell.of(m.tokens), Cell.of(m.tokens_p95), Cell(tokens / right), Cell(tokens),
                Cell(seconds / len(own)), Cell(seconds / right),
            ]  # fmt: skip
            rows.append(Row(name, cells, title, m.setting if not title else ""))
    return Table(
        name="cost",
        title="Cost",
        caption=f"Generated tokens, thought included, {ERRORS}. Seconds: wall-clock from a request’s prefill to its "
        "last token, which it shares with its batch-mates, so they tell settings of one run apart, not machines.",
        head="Setting",
        columns=[
            Column(key="responses", head="responses", decimals=0),
            Column(key="tokens_per_response", head="per response", group="Tokens"),
            Column(key="tokens_p95", head="95th percentile", group="Tokens", decimals=0),
            Column(key="tokens_per_correct", head="per right answer", group="Tokens"),
            Column(key="tokens", head="in all", group="Tokens", decimals=0),
            Column(key="seconds_per_response", head="per response", group="Seconds", decimals=2),
            Column(key="seconds_per_correct", head="per right answer", group="Seconds", decimals=2),
        ],
        rows=rows,
    )


def stages_table(stages: Stages) -> Table:
    """Stage 2 along λ by the grid rule and by the fit, with 95 % intervals; no rows where neither found it."""
    rows: list[Row] = []
    if stages.found and stages.grid:
        rows.append(Row("grid rule: first", [Cell(stages.grid[0]), "last λ with Think #R ≤ 5 %"]))
        rows.append(Row("grid rule: last", [Cell(stages.grid[1]), "first λ with Think #R ≥ 99 %"]))
    fit = stages.fit if stages.found else None
    if fit and fit.identified:
        named = {"midpoint": "midpoint of the rise"} | {f"crossing_{n}": f"{n} % of the rise" for n in (5, 95, 99)}
        for key, title in named.items():
            low, high = stages.intervals.get(key, (math.nan, math.nan))
            rows.append(Row(f"fit: {title}", [Cell(getattr(fit, key), low=low, high=high), ""], key=key))
        residual = f"largest residual {100 * fit.largest_residual:.1f} points of Think #R"
        rows[-1] = Row(rows[-1].name, [rows[-1].cells[0], residual], key=rows[-1].key)
    elif fit:
        a, b = fit.bracket
        rows.append(Row("fit", [Cell(), f"within {a:g} to {b:g}: the grid does not resolve the width"]))
    return Table(
        name="stages",
        title="Stage 2 along λ",
        caption="95 % intervals, clustered by question",
        head="boundary",
        columns=[Column(key="lambda", head="λ", decimals=3, interval=True), Column(key="note", head="", decimals=None)],
        rows=rows,
    )


def published_table(found: Sequence[SettingMetrics], published: Mapping[str, PublishedRow]) -> Table:
    """An ablation's settings beside the `published` ones, those that have one."""
    beside = [m for m in found if m.setting in published]
    own, theirs = (at("Mean", k) for k in (per_question(found), next(iter(published.values())).k))
    return Table(
        name="published",
        title="Beside the published ablation",
        caption=ERRORS,
        head="setting",
        columns=[
            _share("mean_at_k", own),
            Column(key="published_mean_at_k", head=f"published {theirs}", unit="%", scale=100, decimals=2),
            _share("think_ratio", "Think #R"),
            Column(key="published_think_ratio", head="published Think #R", unit="%", scale=100, decimals=2),
        ],
        rows=[
            Row(
                m.setting,
                [Cell.of(m.mean_at_k), Cell(row.mean_at_k), Cell.of(m.think_ratio), Cell(row.think_ratio)],
            )
            for m in beside
            for row in [published[m.setting]]
        ],
    )


def _share(key: str, head: str, *, shown: bool = True) -> Column:
    return Column(key=key, head=head, unit="%", scale=100, by_error=True, shown=shown)


def _count(key: str, head: str) -> Column:
    return Column(key=key, head=head, by_error=True)


def _data(key: str, decimals: int | None = 0) -> Column:
    return Column(key=key, head=key, decimals=decimals, shown=False)


def _kind(kind: str) -> str:
    return f"thinking_{kind.replace('-', '_')}"


def _head(found: Sequence[SettingMetrics]) -> str:
    return "λ" if all(m.lam is not None for m in found) else "setting"


def _names(found: Sequence[SettingMetrics]) -> dict[str, str]:
    """Setting → its row: the bare label under λ, beside other settings as `λ 0.5`."""
    return {m.setting: m.setting if _head(found) == "λ" else setting_name(m) for m in found}
