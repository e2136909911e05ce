"""Figures of an evaluation: policies over tokens with both frontiers, and λ by difficulty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np

from mull.analysis.frontier import concave_hull
from mull.dynamic.evaluation.comparison import Row, Table
from mull.reports.figures.panels import Z95
from mull.reports.figures.theme import THEMES, Variant

WIDTH, HEIGHT = 660, 400
BINS = 10
"""Of λ from 0 to 1, in the histogram, whose first and last bin reach beyond."""
_FONT = 11.5
_LETTER, _LINE = 6.9, 15.0
"""Pixels that a letter and a line of labels take."""


def routes_figure(found: Table, variant: Variant = "light", size: tuple[int, int] = (WIDTH, HEIGHT)) -> alt.LayerChart:
    """Mean tokens (x) against accuracy (y) with 95 % intervals: the static frontier joined, that of thinking budgets
    dashed, every other policy as a labelled point."""
    theme = THEMES[variant]
    colors = {"static": theme.muted, "budget": theme.series[1], "estimator": theme.accent}
    rows = [_point(row, colors.get(row.kind, theme.ink)) for row in found.rows if row.kind != "random"]
    low_x, high_x = min(r["x_low"] for r in rows), max(r["x_high"] for r in rows)
    low_y, high_y = min(r["y_low"] for r in rows), max(r["y_high"] for r in rows)
    pad_x, pad_y = 0.06 * (high_x - low_x) or 1.0, 0.06 * (high_y - low_y) or 1.0
    x_domain = (max(0.0, low_x - pad_x), high_x + pad_x)
    y_domain = (max(0.0, low_y - pad_y), min(101.0, high_y + pad_y))
    x_scale, y_scale = (alt.Scale(domain=list(each), nice=False, zero=False) for each in (x_domain, y_domain))
    x_axis = alt.Axis(title="Token #N (tokens per response, choosing λ included)", tickCount=max(3, size[0] // 110))

    def x_of(name: str) -> alt.X:
        return alt.X(f"{name}:Q", scale=x_scale, axis=x_axis)

    def y_of(name: str) -> alt.Y:
        return alt.Y(f"{name}:Q", scale=y_scale, axis=alt.Axis(title=None, tickCount=6))

    def chart(values: Sequence[dict]) -> alt.Chart:
        return alt.Chart(alt.Data(values=list(values)))

    color = alt.Color("color:N", scale=None, legend=None)
    layers: list[alt.Chart] = []
    for kind, dash in (("static", [1, 0]), ("budget", [5, 4])):
        own = [row for row in rows if row["kind"] == kind]
        if len(own) > 1:
            corners = concave_hull(np.array([r["tokens"] for r in own]), np.array([r["accuracy"] for r in own]))
            line = chart([own[i] for i in corners]).mark_line(color=colors[kind], strokeWidth=2, strokeDash=dash)
            layers.append(line.encode(x=x_of("tokens"), y=y_of("accuracy"), order="tokens:Q"))
    bars = chart(rows).mark_rule(opacity=0.5, strokeWidth=1)
    layers.append(bars.encode(x=x_of("tokens"), y=y_of("y_low"), y2="y_high:Q", color=color))
    layers.append(bars.encode(y=y_of("accuracy"), x=x_of("x_low"), x2="x_high:Q", color=color))
    point = chart(rows).mark_point(filled=True, opacity=1)
    layers.append(
        point.encode(
            x=x_of("tokens"),
            y=y_of("accuracy"),
            color=color,
            shape=alt.Shape("shape:N", scale=None, legend=None),
            size=alt.Size("size:Q", scale=None, legend=None),
        )
    )
    named = [row for row in rows if row["kind"] != "static"] + _ends([r for r in rows if r["kind"] == "static"])
    places = label_places(
        [(row["label"], *_pixel(row, x_domain, y_domain, size)) for row in named],
        [_pixel(row, x_domain, y_domain, size) for row in rows],
        size,
    )
    for row, side in zip(named, places, strict=True):
        text = {"fontSize": _FONT, "fontWeight": "bold", "baseline": "middle", **side}
        where = {"x": x_of("tokens"), "y": y_of("accuracy"), "text": "label:N"}
        halo = chart([row]).mark_text(stroke=theme.background, color=theme.background, strokeWidth=3.5, **text)
        layers += [halo.encode(**where), chart([row]).mark_text(**text).encode(**where, color=color)]
    subtitle = "joined: static λ · dashed: thinking budgets · bars: ±1.96 standard errors"
    title = alt.TitleParams(
        "Accuracy (%) over tokens", subtitle=subtitle if size[0] >= WIDTH else "joined: static λ", offset=12
    )
    return alt.LayerChart(layer=layers, title=title, width=size[0], height=size[1])


def label_places(
    labels: Sequence[tuple[str, float, float]], points: Sequence[tuple[float, float]], size: tuple[int, int]
) -> list[dict[str, Any]]:
    """Where the text of each label stands beside its point: as near as it covers no other label, no point, and not the
    figure's edge. `labels`: text and pixels; `points`: pixels of everything that is drawn."""
    taken = [(x - 5.0, y - 5.0, x + 5.0, y + 5.0) for x, y in points]
    found = []
    for text, x, y in labels:
        width = _LETTER * len(text)
        best: tuple[float, dict[str, Any], tuple[float, float, float, float]] | None = None
        for dy in (-10, 10, 0, -24, 24, -38, 38, -52, 52):
            for side in (1, -1):
                left = x + 8 if side > 0 else x - 8 - width
                box = (left, y + dy - _LINE / 2, left + width, y + dy + _LINE / 2)
                outside = max(0.0, -box[0]) + max(0.0, box[2] - size[0]) + max(0.0, box[3] - size[1] + 4)
                cost = sum(_shared(box, other) for other in taken) + 30 * outside + abs(dy)
                if best is None or cost < best[0]:
                    best = (cost, {"align": "left" if side > 0 else "right", "dx": 8 * side, "dy": dy}, box)
        assert best is not None
        found.append(best[1])
        taken.append(best[2])
    return found


def _shared(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    """Pixels that two boxes (left, top, right, bottom) share."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _pixel(
    row: Mapping[str, Any], x: tuple[float, float], y: tuple[float, float], size: tuple[int, int]
) -> tuple[float, float]:
    across, up = (row["tokens"] - x[0]) / (x[1] - x[0]), (row["accuracy"] - y[0]) / (y[1] - y[0])
    return across * size[0], (1 - up) * size[1]


def histogram(lams: Mapping[str, Sequence[float]], variant: Variant = "light", width: int = 560) -> alt.VConcatChart:
    """How often each λ was chosen, one row for each stratum, in shares of its questions."""
    theme = THEMES[variant]
    # Grids have λ such as 0.6: these are the middles of the bins, so that none falls on an edge.
    edges = (np.arange(BINS + 2) - 0.5) / BINS
    charts = []
    for place, (stratum, values) in enumerate(lams.items()):
        counts, _ = np.histogram(values, edges)
        rows = [
            {"low": low, "high": high, "share": 100 * count / max(1, len(values))}
            for low, high, count in zip(edges, edges[1:], counts, strict=False)
        ]
        last = place == len(lams) - 1
        axis = alt.Axis(title="λ(q)" if last else None, values=[0, 0.2, 0.4, 0.6, 0.8, 1], labels=last)
        bar = alt.Chart(alt.Data(values=rows)).mark_bar(color=theme.accent, binSpacing=1)
        charts.append(
            bar.encode(
                x=alt.X("low:Q", bin="binned", scale=alt.Scale(domain=[edges[0], edges[-1]], nice=False), axis=axis),
                x2="high:Q",
                y=alt.Y("share:Q", scale=alt.Scale(domain=[0, 100]), axis=alt.Axis(title=None, tickCount=3)),
            ).properties(
                width=width,
                height=74,
                title=alt.TitleParams(f"{stratum or 'all'} · {len(values)} questions, %", fontSize=12),
            )
        )
    return alt.VConcatChart(vconcat=charts, spacing=6)


def _point(row: Row, color: str) -> dict:
    accuracy, tokens = 100 * row.accuracy, row.tokens
    return {
        "label": row.label.removeprefix("Thinking, "),
        "kind": row.kind,
        "color": color,
        "shape": "circle" if row.kind == "static" else "square" if row.kind == "budget" else "diamond",
        "size": 130 if row.kind == "estimator" else 60,
        "accuracy": accuracy,
        "tokens": tokens,
        "y_low": max(0.0, accuracy - Z95 * 100 * row.accuracy_error),
        "y_high": min(100.0, accuracy + Z95 * 100 * row.accuracy_error),
        "x_low": tokens - Z95 * row.tokens_error,
        "x_high": tokens + Z95 * row.tokens_error,
    }


def _ends(static: list[dict]) -> list[dict]:
    """The cheapest, the most accurate and the dearest of the static λ: these are named."""
    picked = [min(static, key=lambda r: r["tokens"]), max(static, key=lambda r: r["accuracy"])]
    picked.append(max(static, key=lambda r: r["tokens"]))
    return list({row["label"]: {**row, "label": f"λ = {row['label']}"} for row in picked}.values())
