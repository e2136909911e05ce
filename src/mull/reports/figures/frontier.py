"""Accuracy over tokens, one point per setting: the frontier emphasised and joined, every point labelled by its λ."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import altair as alt

from mull.analysis.frontier import Frontier
from mull.analysis.metrics import SettingMetrics
from mull.reports.figures.panels import Z95
from mull.reports.figures.theme import THEMES, Variant
from mull.reports.format import at, per_question

WIDTH, HEIGHT = 660, 380
LOG_FROM = 12.0
"""Ratio of most to fewest tokens from which the axis is logarithmic."""


class Box(NamedTuple):
    """A rectangle in pixels, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """Shared area in square pixels."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, width) * max(0.0, height)


def frontier_figure(
    metrics: Sequence[SettingMetrics],
    frontier: Frontier,
    variant: Variant = "light",
    size: tuple[int, int] = (WIDTH, HEIGHT),
) -> alt.LayerChart:
    """Mean generated tokens (x) against Mean@k (y) with 95 % intervals.

    Filled and joined: settings that no other one beats on both. A thin line joins the λ in their order; settings
    without λ are diamonds, labelled by name.
    """
    theme = THEMES[variant]
    width, height = size
    best = {point.setting for point in frontier.points}
    known = [m for m in metrics if not math.isnan(m.mean_at_k.value + m.tokens.value)]
    rows = [_row(m, m.setting in best, theme.accent if m.setting in best else theme.muted) for m in known]
    x, y, logarithmic = _domains(rows)
    x_pixel = _to_pixel(x, width, logarithmic)
    upwards = _to_pixel(y, height)
    order = {point.setting: i for i, point in enumerate(frontier.points)}
    path = [row for row in rows if row["lam"] is not None]
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
    labels = _labels(rows, joined, x_pixel, lambda value: height - upwards(value), size)
    far = [label for label in labels if label["far"]]
    if far:
        leader = chart(far).mark_rule(strokeWidth=0.8, opacity=0.8)
        layers.append(
            leader.encode(
                x=alt.X("px:Q", scale=None, axis=None),
                y=alt.Y("py:Q", scale=None, axis=None),
                x2="point_x:Q",
                y2="point_y:Q",
                color=color,
            )
        )
    for strong in (True, False):
        texts = [label for label in labels if label["best"] is strong]
        if texts:
            text_size: dict[str, Any] = {"fontSize": 12, "fontWeight": "bold"} if strong else {"fontSize": 11}
            place: dict[str, Any] = {
                "x": alt.X("px:Q", scale=None, axis=None),
                "y": alt.Y("py:Q", scale=None, axis=None),
                "text": "label:N",
            }
            halo = chart(texts).mark_text(
                baseline="middle", stroke=theme.background, color=theme.background, strokeWidth=3.5, **text_size
            )
            layers += [
                halo.encode(**place),
                chart(texts).mark_text(baseline="middle", **text_size).encode(**place, color=color),
            ]
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


def _to_pixel(domain: tuple[float, float], length: float, logarithmic: bool = False) -> Callable[[float], float]:
    f = math.log if logarithmic else float
    low, high = f(domain[0]), f(domain[1])
    return lambda value: length * (f(value) - low) / (high - low)


def _labels(
    rows: Sequence[dict],
    joined: Sequence[dict],
    x_pixel: Callable[[float], float],
    y_pixel: Callable[[float], float],
    size: tuple[int, int],
) -> list[dict]:
    """Where each label stands, in pixels: round its point where it covers least."""
    spots = [(x_pixel(row["tokens"]), y_pixel(row["accuracy"])) for row in rows]
    taken = [(Box(px - 6, py - 6, px + 6, py + 6), 8.0) for px, py in spots]
    for row, (px, py) in zip(rows, spots, strict=True):
        if not math.isnan(row["y_low"]):
            taken.append((Box(px - 2, y_pixel(row["y_high"]), px + 2, y_pixel(row["y_low"])), 0.35))
        if not math.isnan(row["x_low"]) and row["x_low"] > 0:
            taken.append((Box(x_pixel(row["x_low"]), py - 2, x_pixel(row["x_high"]), py + 2), 0.35))
    line = [(x_pixel(row["tokens"]), y_pixel(row["accuracy"])) for row in joined]
    for (x0, y0), (x1, y1) in pairwise(line):
        steps = max(1, int(math.hypot(x1 - x0, y1 - y0) / 4))
        for i in range(steps + 1):
            cx, cy = x0 + (x1 - x0) * i / steps, y0 + (y1 - y0) * i / steps
            taken.append((Box(cx - 2, cy - 2, cx + 2, cy + 2), 3.0))
    labels = []
    # The frontier's labels first: they matter most.
    for row, (px, py) in sorted(zip(rows, spots, strict=True), key=lambda pair: not pair[0]["best"]):
        half_width, half_height = 3.6 * len(row["label"]) + 2, 7.5
        best: tuple[float, float, float, Box] | None = None
        for distance in (9, 14, 20, 28, 38, 50):
            for degrees in (135, 45, 90, 270, 225, 315, 180, 0, 158, 112, 68, 22, 338, 292, 248, 202):
                dx, dy = math.cos(math.radians(degrees)), -math.sin(math.radians(degrees))
                cx, cy = px + dx * (distance + half_width * abs(dx)), py + dy * (distance + half_height * abs(dy) * 0.6)
                box = Box(cx - half_width, cy - half_height, cx + half_width, cy + half_height)
                cost = sum(weight * box.overlap(other) for other, weight in taken) + 2.0 * distance
                if any(math.hypot(cx - x, cy - y) < math.hypot(cx - px, cy - py) for x, y in spots):
                    cost += 80  # it would be read as that point's
                if box.left < 0 or box.right > size[0] or box.top < 0 or box.bottom > size[1]:
                    cost += 300
                if best is None or cost < best[0]:
                    best = (cost, cx, cy, box)
        assert best is not None
        taken.append((best[3], 12.0))
        labels.append(
            {
                "label": row["label"],
                "best": row["best"],
                "color": row["color"],
                "px": best[1],
                "py": best[2],
                "point_x": px,
                "point_y": py,
                # Far from its point, a label needs a line to it.
                "far": math.hypot(max(0.0, abs(best[1] - px) - half_width), abs(best[2] - py)) > 13,
            }
        )
    return labels
