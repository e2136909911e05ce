"""Figures of an evaluation: policies over tokens with both frontiers, and λ by difficulty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np

from mull.analysis.choosing.headroom import frontier
from mull.dynamic.evaluation.comparison import Row, Table
from mull.reports.figures.panels import Z95
from mull.reports.figures.theme import THEMES, Variant

WIDTH, HEIGHT = 660, 400
BINS = 10
"""Of λ, in the histogram."""


def routes_figure(found: Table, variant: Variant = "light", size: tuple[int, int] = (WIDTH, HEIGHT)) -> alt.LayerChart:
    """Mean tokens (x) against accuracy (y) with 95 % intervals: the static frontier joined, that of thinking budgets
    dashed, every other policy as a labelled point."""
    theme = THEMES[variant]
    colors = {"static": theme.muted, "budget": theme.series[1], "estimator": theme.accent}
    rows = [_point(row, colors.get(row.kind, theme.ink)) for row in found.rows if row.kind != "random"]
    low_x, high_x = min(r["x_low"] for r in rows), max(r["x_high"] for r in rows)
    low_y, high_y = min(r["y_low"] for r in rows), max(r["y_high"] for r in rows)
    pad_x, pad_y = 0.06 * (high_x - low_x) or 1.0, 0.06 * (high_y - low_y) or 1.0
    x_scale = alt.Scale(domain=[max(0.0, low_x - pad_x), high_x + pad_x], nice=False, zero=False)
    y_scale = alt.Scale(domain=[max(0.0, low_y - pad_y), min(101.0, high_y + pad_y)], nice=False, zero=False)
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
            corners = frontier(np.array([r["tokens"] for r in own]), np.array([r["accuracy"] for r in own]))
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
    for place, row in enumerate(sorted(named, key=lambda row: row["tokens"])):
        side = {"align": "right", "dx": -8, "dy": -9} if place % 2 == 0 else {"align": "left", "dx": 8, "dy": 10}
        text = {"fontSize": 11.5, "fontWeight": "bold", "baseline": "middle", **side}
        where = {"x": x_of("tokens"), "y": y_of("accuracy"), "text": "label:N"}
        halo = chart([row]).mark_text(stroke=theme.background, color=theme.background, strokeWidth=3.5, **text)
        layers += [halo.encode(**where), chart([row]).mark_text(**text).encode(**where, color=color)]
    subtitle = "joined: static λ · dashed: thinking budgets · bars: ±1.96 standard errors"
    title = alt.TitleParams(
        "Accuracy (%) over tokens", subtitle=subtitle if size[0] >= WIDTH else "joined: static λ", offset=12
    )
    return alt.LayerChart(layer=layers, title=title, width=size[0], height=size[1])


def histogram(lams: Mapping[str, Sequence[float]], variant: Variant = "light", width: int = 560) -> alt.VConcatChart:
    """How often each λ was chosen, one row for each stratum, in shares of its questions."""
    theme = THEMES[variant]
    edges = np.linspace(0, 1, BINS + 1)
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
                x=alt.X("low:Q", bin="binned", scale=alt.Scale(domain=[0, 1]), axis=axis),
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
