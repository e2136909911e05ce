"""The tables of the HTML report. Every cell is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from mull.analysis.metrics import SettingMetrics
from mull.analysis.scores import names_of_scores, scores_by_setting
from mull.analysis.stages import Stages
from mull.analysis.tables import PublishedRow
from mull.reports.format import (
    NONE,
    at,
    common_k,
    count,
    per_question,
    percent,
    points,
    setting_name,
    tokens,
    verdict,
)
from mull.reports.results import Comparison, Results
from mull.runs.paper.published import published_setting
from mull.thinking import ThinkingKind


def metrics_table(results: Results) -> str:
    """One row per setting with every metric."""
    head = ["setting", *_performance_head(results.metrics), "Think #R, %", "Token #N", "95th percentile"]
    head += ["cut off, %", "no answer, %"]
    # What no response did needs no column.
    kinds: list[ThinkingKind] = [kind for kind in _ODD_KINDS if any(m.thinking[kind].value for m in results.metrics)]
    head += [f"{kind}, %" for kind in kinds] + ["responses"]
    best = {point.setting for point in results.frontier.points}
    rows = [
        _row(
            setting_name(m),
            *_performance(m, results.metrics),
            _error(percent(m.think_ratio)),
            _error(count(m.tokens)),
            _error(count(m.tokens_p95)),
            _error(percent(m.truncation)),
            _error(percent(m.unanswered)),
            *(_error(percent(m.thinking[kind])) for kind in kinds),
            f"{m.samples:,}",
            css="frontier" if m.setting in best else "",
        )
        for m in results.metrics
    ]
    return _table(head, rows, "Metrics of every setting")


def scores_table(results: Results) -> str:
    """What the graders say beyond right and wrong, one row per setting; empty where they say nothing."""
    found = scores_by_setting(results.samples)
    heads = names_of_scores(found)
    rows = [
        _row(setting_name(m), *(_error(percent(own[head])) if head in own else NONE for head in heads))
        for m in results.metrics
        if (own := found.get(m.setting))
    ]
    return _table(["setting", *(f"{head}, %" for head in heads)], rows, "Further scores") if rows else ""


def strata_table(results: Results) -> str:
    """The main metrics of every difficulty class and setting."""
    everything = [m for found in results.strata.values() for m in found]
    head = ["difficulty, setting", *_performance_head(everything), "Think #R, %", "Token #N", "responses"]
    rows = []
    for name, found in results.strata.items():
        questions = max((m.questions for m in found), default=0)
        title = f"{name or '(none)'} · {questions:,} questions"
        rows.append(f'<tr class="group"><th scope="rowgroup" colspan="{len(head)}">{escape(title)}</th></tr>')
        rows += [
            _row(
                setting_name(m),
                *_performance(m, everything),
                _error(percent(m.think_ratio)),
                _error(count(m.tokens)),
                f"{m.samples:,}",
            )
            for m in found
        ]
    table = _table(head, rows, "Metrics by difficulty")
    return f"<details><summary>Table by difficulty</summary>{table}</details>"


def frontier_table(results: Results) -> str:
    """The dominated settings that lie within one standard error of the frontier; empty if none does."""
    if not results.frontier.near:
        return ""
    names = {m.setting: setting_name(m) for m in results.metrics}
    items = []
    for near in results.frontier.near:
        _, _, deficit = near.note.partition(": ")
        text = f"{names[near.point.setting]} is within one standard error of {names[near.dominated_by]}: {deficit}"
        items.append(f"<li>{escape(text)}</li>")
    return f'<details><summary>Beaten, but within the error</summary><ul class="note">{"".join(items)}</ul></details>'


def comparison_table(found: Sequence[Comparison], title: str, best: SettingMetrics | None) -> str:
    """Paired differences in accuracy and tokens with their verdicts."""
    head = ["setting", "accuracy, points", "", "tokens", "", "questions"]
    rows = []
    for each in found:
        accuracy = verdict(each.accuracy, "higher", "lower")
        cost = verdict(each.tokens, "more", "fewer")
        rows.append(
            _row(
                setting_name(each.a)
                + (" (most accurate)" if best and each.a.setting == best.setting else "")
                + ("" if best else f" − {setting_name(each.b)}"),
                escape(points(each.accuracy)),
                f'<span class="{_VERDICT[accuracy]}">{accuracy}</span>',
                escape(tokens(each.tokens)),
                f'<span class="{_VERDICT[cost]}">{cost}</span>',
                f"{each.accuracy.questions:,}",
            )
        )
    return _table(head, rows, title, caption=title)


_ODD_KINDS: tuple[ThinkingKind, ...] = ("unclosed", "pseudo-closed")
_VERDICT = {"higher": "up", "lower": "down", "fewer": "up", "more": "down", "tie": "tie", "unknown": "tie"}


def stages_table(stages: Stages) -> str:
    """Stage 2 by the grid rule and by the fit, with intervals; empty where neither found it."""
    if not stages.found:
        return ""
    rows = []
    if stages.grid:
        a, b = stages.grid
        rows.append(
            _row("stage 2 by the grid rule", f"{a:g} to {b:g}", "last λ with Think #R ≤ 5 % to first with ≥ 99 %")
        )
    fit = stages.fit
    if fit and fit.identified:
        for name, value, title in (
            ("midpoint", fit.midpoint, "midpoint of the rise"),
            ("crossing_5", fit.crossing_5, "5 % of the rise"),
            ("crossing_95", fit.crossing_95, "95 % of the rise"),
            ("crossing_99", fit.crossing_99, "99 % of the rise"),
        ):
            limits = stages.intervals.get(name)
            interval = f"95 % interval {limits[0]:.3f} to {limits[1]:.3f}" if limits else NONE
            rows.append(_row(f"fit: {title}", f"{value:.3f}", interval))
        rows.append(_row("fit: largest residual", NONE, f"{100 * fit.largest_residual:.1f} points of Think #R"))
    elif fit:
        a, b = fit.bracket
        rows.append(_row("fit", f"within {a:g} to {b:g}", "the grid does not resolve the width"))
    return _table(["", "λ", ""], rows, "Stage 2 along λ", left=True)


def published_rows(results: Results) -> dict[str, PublishedRow]:
    """Setting → the published row beside it, where there is one."""
    found = {m.setting: published_setting(results.plan, m.setting) for m in results.metrics}
    return {setting: row for setting, row in found.items() if row}


def published_table(results: Results) -> str:
    """An ablation's settings beside the published ones of Qwen3-4B; empty where none is published at its λ."""
    found = published_rows(results)
    rows = [
        _row(
            m.setting,
            _error(percent(m.mean_at_k)),
            _share(row.mean_at_k),
            _error(percent(m.think_ratio)),
            _share(row.think_ratio),
        )
        for m in results.metrics
        if (row := found.get(m.setting))
    ]
    if not rows:
        return ""
    own, theirs = (at("Mean", k) for k in (per_question(results.metrics), next(iter(found.values())).k))
    head = ["setting", f"{own}, %", f"published {theirs}, %", "Think #R, %", "published Think #R, %"]
    return _table(head, rows, "Beside the published ablation")


def _share(value: float) -> str:
    return NONE if value != value else f"{100 * value:.2f}"


def pairs_table(rows: Sequence[tuple[str, str]], title: str) -> str:
    """Names and values."""
    body = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in rows)
    return f'<h3>{escape(title)}</h3><table class="pairs"><tbody>{body}</tbody></table>'


def _performance_head(found: Sequence[SettingMetrics]) -> list[str]:
    each, k = per_question(found), common_k(found)
    head = [f"{at('Mean', each)}, %"]
    if k != 1:
        head.append(f"{at('Pass', k)}, %")
    if each != 1:
        head.append(f"{at('Vote', each)}, %")
    return head


def _performance(m: SettingMetrics, found: Sequence[SettingMetrics]) -> list[str]:
    k = common_k(found)
    cells = [_error(percent(m.mean_at_k))]
    if k != 1:
        cells.append(_error(percent(m.pass_at_k)) + (f" (k = {m.k})" if k is None else ""))
    if per_question(found) != 1:
        cells.append(_error(percent(m.vote_at_k)))
    return cells


def _error(text: str) -> str:
    value, sign, error = text.partition(" ± ")
    return f'{escape(value)} <span class="e">± {escape(error)}</span>' if sign else escape(value)


def _row(name: str, *cells: str, css: str = "") -> str:
    """A table row; `name` is escaped here, `cells` are HTML."""
    inside = f'<th scope="row">{escape(name)}</th>' + "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr class="{css}">{inside}</tr>' if css else f"<tr>{inside}</tr>"


def _table(head: Sequence[str], rows: Iterable[str], label: str, caption: str = "", left: bool = False) -> str:
    heading = "".join(f'<th scope="col"{" class=left" if left else ""}>{escape(name)}</th>' for name in head)
    body = "".join(rows)
    if left:
        body = body.replace("<td>", '<td class="left">')
    above = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}"><table>{above}'
        f"<thead><tr>{heading}</tr></thead><tbody>{body}</tbody></table></div>"
    )
