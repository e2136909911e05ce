"""Accuracy over tokens, one point per setting: the frontier emphasised and joined, its points labelled by their λ."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import altair as alt

from mull.analysis.frontier import Frontier
from mull.analysis.metrics import SettingMetrics
from mull.reports.figures.panels import Z95
from mull.reports.figures.theme import THEMES, Variant
from mull.reports.format import at, per_question

WIDTH, HEIGHT = 660, 380
LOG_FROM = 12.0
"""Ratio of most to fewest tokens from which the axis is logarithmic."""


def frontier_figure(
    metrics: Sequence[SettingMetrics],
    frontier: Frontier,
    variant: Variant = "light",
    size: tuple[int, int] = (WIDTH, HEIGHT),
) -> alt.LayerChart:
    """Mean generated tokens (x) against Mean@k (y) with 95 % intervals.

    Filled and joined: settings that no other one beats on both. A thin line joins the λ in their order; settings
    without λ are diamonds. Thinking budgets have a line of their own, as a rival of λ. Labelled: the frontier, by λ or
    name, and the budgets.
    """
    theme = THEMES[variant]
    width, height = size
    best = {point.setting for point in frontier.points}
    known = [m for m in metrics if not math.isnan(m.mean_at_k.value + m.tokens.value)]
    rows = [_row(m, m.setting in best, theme.accent if m.setting in best else theme.muted) for m in known]
    x, y, logarithmic = _domains(rows)
    order = {point.setting: i for i, point in enumerate(frontier.points)}
    path = [row for row in rows if row["lam"] is not None]
    budgets = sorted((row for row in rows if row["budget"] is not None), key=lambda row: row["budget"])
    joined = sorted((row for row in rows if row["best"]), key=lambda row: order[row["setting"]])

    x_scale = alt.Scale(domain=list(x), nice=False, zero=False, type="log" if logarithmic else "linear")
    x_axis = alt.Axis(title="Token #N (tokens per response" + (", logarithmic)" if logarithmic else ")"))
    x_axis.format, x_axis.tickCount, x_axis.grid = ",d", max(3, width // 110), True
    y_scale = alt.Scale(domain=list(y), nice=False, zero=False)
    y_axis = alt.Axis(title=None, tickCount=6)

    def chart(found: list[dict]) -> alt.Chart:
        return alt.Chart(alt.Data(values=found))

    def x_of(name: str) -> alt.X:
        return alt.X(f"{name}:Q", scale=x_scale, axis=x_axis)

    def y_of(name: str) -> alt.Y:
        return alt.Y(f"{name}:Q", scale=y_scale, axis=y_axis)

    color = alt.Color("color:N", scale=None, legend=None)
    layers: list[alt.Chart] = []
    if len(path) > 1:
        layers.append(
            chart(path)
            .mark_line(color=theme.muted, strokeWidth=1, opacity=0.45, strokeDash=[2, 3])
            .encode(x=x_of("tokens"), y=y_of("accuracy"), order="lam:Q")
        )
    if len(budgets) > 1:
        layers.append(
            chart(budgets)
            .mark_line(color=theme.muted, strokeWidth=1.4, opacity=0.8, strokeDash=[6, 3])
            .encode(x=x_of("tokens"), y=y_of("accuracy"), order="budget:Q")
        )
    if len(joined) > 1:
        layers.append(
            chart(joined)
            .mark_line(color=theme.accent, strokeWidth=2.2)
            .encode(x=x_of("tokens"), y=y_of("accuracy"), order="tokens:Q")
        )
    upright = [row for row in rows if not math.isnan(row["y_low"])]
    flat = [row for row in rows if not math.isnan(row["x_low"])]
    if upright:
        rule = chart(upright).mark_rule(opacity=0.5, strokeWidth=1)
        layers.append(rule.encode(x=x_of("tokens"), y=y_of("y_low"), y2="y_high:Q", color=color))
    if flat:
        rule = chart(flat).mark_rule(opacity=0.5, strokeWidth=1)
        layers.append(rule.encode(y=y_of("accuracy"), x=x_of("x_low"), x2="x_high:Q", color=color))
    point = chart(rows).mark_point(filled=True, opacity=1, strokeWidth=1.6)
    layers.append(
        point.encode(
            x=x_of("tokens"),
            y=y_of("accuracy"),
            shape=alt.Shape("shape:N", scale=None, legend=None),
            size=alt.Size("size:Q", scale=None, legend=None),
            fill=alt.Fill("fill:N", scale=None, legend=None),
            stroke=alt.Stroke("color:N", scale=None, legend=None),
        )
        .transform_calculate(fill=f"datum.best ? datum.color : '{theme.background}'")
        .transform_calculate(size="datum.best ? 85 : 55")
    )
    for i, row in enumerate(joined):
        # The frontier rises: above and left of a point, or below and right of it, there is room.
        side = {"align": "right", "dx": -8, "dy": -9} if i % 2 == 0 else {"align": "left", "dx": 8, "dy": 10}
        text: dict[str, Any] = {"fontSize": 12, "fontWeight": "bold", "baseline": "middle", **side}
        place: dict[str, Any] = {"x": x_of("tokens"), "y": y_of("accuracy"), "text": "label:N"}
        halo = chart([row]).mark_text(stroke=theme.background, color=theme.background, strokeWidth=3.5, **text)
        layers += [halo.encode(**place), chart([row]).mark_text(**text).encode(**place, color=color)]
    beside: dict[str, Any] = {"align": "left", "baseline": "middle", "dx": 8, "dy": 10, "fontSize": 11}
    lesser = [{**row, "label": f"budget {row['budget']}"} for row in budgets if not row["best"]]
    if lesser:
        place = {"x": x_of("tokens"), "y": y_of("accuracy"), "text": "label:N"}
        layers.append(chart(lesser).mark_text(color=theme.muted, **beside).encode(**place))
    title = alt.TitleParams(
        f"Accuracy ({at('Mean', per_question(known))}, %) over tokens",
        subtitle="labels: λ · filled and joined: no other setting is better on both · bars: ±1.96 standard errors"
        if width >= WIDTH
        else "labels: λ · filled: no other is better on both",
        offset=12,
    )
    return alt.LayerChart(layer=layers, title=title, width=width, height=height)


def _row(m: SettingMetrics, best: bool, color: str) -> dict:
    accuracy, tokens = m.mean_at_k, m.tokens
    return {
        "setting": m.setting,
        "lam": m.lam,
        "label": f"{m.lam:g}" if m.lam is not None else m.setting,
        "budget": int(limit[1]) if (limit := re.fullmatch(r"Thinking, budget (\d+)", m.setting)) else None,
        "best": best,
        "color": color,
        "shape": "circle" if m.lam is not None else "diamond",
        "accuracy": 100 * accuracy.value,
        "y_low": max(0.0, 100 * (accuracy.value - Z95 * accuracy.error))
        if accuracy.error == accuracy.error
        else math.nan,
        "y_high": min(100.0, 100 * (accuracy.value + Z95 * accuracy.error)),
        "tokens": tokens.value,
        "x_low": tokens.value - Z95 * tokens.error,
        "x_high": tokens.value + Z95 * tokens.error,
    }


def _domains(rows: Sequence[dict]) -> tuple[tuple[float, float], tuple[float, float], bool]:
    def ends(names: tuple[str, ...]) -> tuple[float, float]:
        values = [row[name] for row in rows for name in names if not math.isnan(row[name])]
        return (min(values), max(values)) if values else (0.0, 1.0)

    low, high = ends(("tokens",))
    logarithmic = low > 0 and high / low > LOG_FROM
    low, high = ends(("tokens", "x_low", "x_high"))
    if logarithmic:
        low = max(low, 0.5 * min(row["tokens"] for row in rows))
        x = (low / 1.15, high * 1.15)
    else:
        pad = 0.06 * (high - low) or 0.05 * high or 1.0
        # Tokens from 0 where that costs little room: ratios can then be seen.
        x = (0.0 if low - pad < 0.35 * (high + pad) else low - pad, high + pad)
    low, high = ends(("accuracy", "y_low", "y_high"))
    pad = 0.06 * (high - low) or 1.0
    return x, (max(0.0, low - pad), min(100.0, high + pad)), logarithmic
