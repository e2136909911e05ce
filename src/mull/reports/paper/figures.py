"""The paper's figures: dynamics over λ, ablations, decoding.

Text is legible at 16 cm (6.3 in) of print; the `narrow` versions put the panels below each other, for phones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import altair as alt

from mull.analysis.metrics import Estimate, SettingMetrics
from mull.analysis.stages import Stages
from mull.analysis.tables import PublishedRow
from mull.reports.figures.panels import Z95, Curve, CurvePoint, Panel, draw
from mull.reports.figures.theme import THEMES, Theme, Variant
from mull.reports.format import common_k, stage_bounds
from mull.reports.paper import names
from mull.reports.paper.runs import Arena, Run
from mull.reports.paper.tables import decoding_grid
from mull.runs.paper.published import PUBLISHED, benchmark_title, published_setting

WIDTH = 560
"""Pixels of a figure's panels and what lies between them; 11 of them are 8.5 points at 16 cm."""
NARROW = 320
"""Pixels of the narrow version."""
_GAP = 46
_ACCURACIES = (
    ("mean_at_k", "Mean@k", "circle"),
    ("pass_at_k", "Pass@k", "square"),
    ("vote_at_k", "Vote@k", "triangle-up"),
)


class Swept(NamedTuple):
    """One benchmark's settings with a λ, where its stages lie, and what is published of it."""

    arena: Arena
    stages: Stages | None
    published: Sequence[PublishedRow]


def dynamics_figure(
    columns: Sequence[Swept], variant: Variant = "light", *, overlay: bool = True, narrow: bool = False
) -> alt.VConcatChart:
    """A column per benchmark; accuracies, Think #R and Token #N against λ, stage 2 shaded.

    `overlay` adds published values, dashed: of the same benchmark in each panel, where some are published.
    """
    theme = THEMES[variant]
    width = NARROW - _GAP if narrow else max(120, (WIDTH - _GAP * len(columns)) // len(columns))
    charts = []
    for i, column in enumerate(columns):
        common = {
            "stage_2": stage_bounds(column.stages),
            "width": width,
            "height": 130,
            "names": False,
        }
        shown = _shown(column.arena)
        theirs = [row for row in column.published if row.lam is not None] if overlay else []
        colors = {metric: theme.series[j] for j, (metric, _, _) in enumerate(_ACCURACIES)}
        accuracy = [_curve(name, column.arena, metric, colors[metric], shape) for metric, name, shape in shown]
        dashed = [_dashed(metric, theirs, colors[metric]) for metric, _, _ in shown]
        first = narrow or i == 0
        panels = [
            Panel(
                title=f"{benchmark_title(column.arena.benchmark)} (k = {column.arena.runs[0].plan['k']})",
                curves=accuracy,
                reference=[curve for curve in dashed if curve.points],
                y_title="Accuracy (%)" if first else "",
                top=100,
                x_title="",
                **common,
            ),
            Panel(
                title="",
                curves=[_curve("Think #R", column.arena, "think_ratio", theme.accent)],
                reference=[c for c in [_dashed("think_ratio", theirs, theme.accent)] if c.points],
                y_title="Think #R (%)" if first else "",
                top=100,
                zero=True,
                x_title="",
                **common,
            ),
            Panel(
                title="",
                curves=[_curve("Token #N", column.arena, "tokens", theme.accent)],
                reference=[c for c in [_dashed("tokens", theirs, theme.accent)] if c.points],
                y_title="Token #N" if first else "",
                zero=True,
                x_title="λ",
                **common,
            ),
        ]
        charts.append(alt.vconcat(*[draw(panel, theme) for panel in panels], spacing=12))
    used = dict.fromkeys(entry for column in columns for entry in _shown(column.arena))
    body = alt.vconcat(*charts, spacing=30) if narrow else alt.hconcat(*charts, spacing=14)
    return alt.vconcat(
        _legend(list(used), theme, overlay=overlay and any(column.published for column in columns), narrow=narrow),
        body,
        spacing=4,
    )


def _shown(arena: Arena) -> list[tuple[str, str, str]]:
    """Mean@k and Pass@k, on GPQA Vote@k too."""
    if arena.runs[0].plan["k"] == 1:
        return list(_ACCURACIES[:1])
    shown = _ACCURACIES if names.second_metric(arena.benchmark) == "vote_at_k" else _ACCURACIES[:2]
    return [entry for entry in shown if entry[0] != "pass_at_k" or common_k(arena.metrics) != 1]


def _curve(name: str, arena: Arena, metric: str, color: str, shape: str = "circle") -> Curve:
    scale = 1 if metric == "tokens" else 100
    points = []
    for m in arena.sweep:
        estimate: Estimate = getattr(m, metric)
        points.append(CurvePoint(m.lam or 0.0, scale * estimate.value, scale * estimate.error))
    return Curve(name, points, color, shape)


def _dashed(metric: str, rows: Sequence[PublishedRow], color: str) -> Curve:
    scale = 1 if metric == "tokens" else 100
    found = [CurvePoint(row.lam, scale * getattr(row, metric)) for row in rows if row.lam is not None]
    return Curve(
        f"published {metric} {rows[0].benchmark if rows else ''}", sorted(p for p in found if p.value == p.value), color
    )


def _legend(entries: Sequence[tuple[str, str, str]], theme: Theme, *, overlay: bool, narrow: bool) -> alt.LayerChart:
    """Signs and names in one line, what is published on a second one where it is narrow."""
    order = [metric for metric, _, _ in _ACCURACIES]
    rows, at = [], 6
    for metric, name, shape in sorted(entries, key=lambda entry: order.index(entry[0])):
        rows.append({"x": at, "name": name, "shape": shape, "color": theme.series[order.index(metric)]})
        at += 78
    data = alt.Data(values=rows)
    x, color = alt.X("x:Q", scale=None, axis=None), alt.Color("color:N", scale=None, legend=None)
    middle = alt.value(8)
    marks = alt.Chart(data).mark_point(size=40, filled=True, opacity=1)
    text = alt.Chart(data).mark_text(align="left", baseline="middle", dx=9, fontSize=11.5)
    layers = [
        marks.encode(x=x, y=middle, color=color, shape=alt.Shape("shape:N", scale=None, legend=None)),
        text.encode(x=x, y=middle, text="name:N", color=color),
    ]
    if overlay:
        at, middle = (0, alt.value(26)) if narrow else (at, middle)
        end = alt.Data(values=[{"x": at, "x2": at + 26, "name": f"published: {PUBLISHED}"}])
        rule = alt.Chart(end).mark_rule(strokeWidth=1.1, strokeDash=[4, 3], color=theme.muted)
        layers.append(rule.encode(x=x, x2="x2:Q", y=middle))
        words = alt.Chart(end).mark_text(align="left", baseline="middle", dx=32, fontSize=11, color=theme.muted)
        layers.append(words.encode(x=x, y=middle, text="name:N"))
    return alt.LayerChart(layer=layers, width=NARROW if narrow else WIDTH, height=34 if narrow and overlay else 16)


def ablation_figure(
    run: Run, variant: Variant = "light", *, overlay: bool = True, narrow: bool = False
) -> alt.VConcatChart:
    """A line per setting: Mean@k, Think #R and Token #N with 95 % intervals; a rule marks the whole interpolation.

    `overlay` adds the published values as hollow diamonds: Mean@k and Think #R, and tokens where the benchmark is the
    same.
    """
    theme = THEMES[variant]
    titles = names.setting_titles(run)
    theirs = {setting: published_setting(run.plan, setting) for setting in run.metrics} if overlay else {}
    known = [row for row in theirs.values() if row]
    metrics = (("mean_at_k", "Mean@k (%)"), ("think_ratio", "Think #R (%)"), ("tokens", "Token #N"))
    panels = []
    for i, (metric, title) in enumerate(metrics):
        share = metric != "tokens"
        scale = 100 if share else 1
        rows = [_bar(titles[s], getattr(m, metric), scale, s == run.reference, theme) for s, m in run.metrics.items()]
        shown = {s: row for s, row in theirs.items() if row and (share or row.benchmark == run.benchmark)}
        points = [{"label": titles[s], "value": scale * getattr(row, metric)} for s, row in shown.items()]
        points = [point for point in points if not math.isnan(point["value"])]
        highest = max(row["high"] for row in rows + [{"high": p["value"]} for p in points])
        domain = [0, 100] if share else [0, 1.05 * highest]
        title = title.replace("@k", f"@{run.plan['k']}") if metric == "mean_at_k" else title
        panels.append(_bars(rows, points, title, domain, list(titles.values()), i == 0, narrow, theme))
    bars = alt.vconcat(*panels, spacing=18) if narrow else alt.hconcat(*panels, spacing=22)
    if not known:
        return alt.vconcat(bars)
    words = f"published: {PUBLISHED}, {benchmark_title(known[0].benchmark)}"
    return alt.vconcat(bars, _diamond_note(words, theme, NARROW if narrow else WIDTH), spacing=8)


def _diamond_note(words: str, theme: Theme, width: int) -> alt.LayerChart:
    data = alt.Data(values=[{"name": words}])
    mark = alt.Chart(data).mark_point(shape="diamond", size=58, filled=False, strokeWidth=1.3, color=theme.ink)
    text = alt.Chart(data).mark_text(align="left", baseline="middle", dx=10, fontSize=11, color=theme.muted)
    at = {"x": alt.value(6), "y": alt.value(8)}
    return alt.LayerChart(layer=[mark.encode(**at), text.encode(**at, text="name:N")], width=width, height=16)


def _bar(label: str, estimate: Estimate, scale: float, whole: bool, theme: Theme) -> dict:
    value, reach = scale * estimate.value, Z95 * scale * estimate.error
    reach = 0.0 if math.isnan(reach) else reach
    top = 100.0 if scale == 100 else math.inf
    return {
        "label": label,
        "value": value,
        "low": max(0.0, value - reach),
        "high": min(top, value + reach),
        "whole": whole,
        "color": theme.muted if whole else theme.accent,
    }


def _bars(
    rows: Sequence[dict],
    points: Sequence[dict],
    title: str,
    domain: Sequence[float],
    order: Sequence[str],
    first: bool,
    narrow: bool,
    theme: Theme,
) -> alt.LayerChart:
    axis = alt.Axis(title=None, labelFontSize=11.5, labelColor=theme.ink, labelLimit=140) if first or narrow else None
    y = alt.Y("label:N", sort=list(order), scale=alt.Scale(domain=list(order), paddingInner=0.3), axis=axis)
    x_axis = alt.Axis(title=None, tickCount=3, format=",d" if domain[1] >= 20 else "", grid=True)
    if domain[1] == 100:
        x_axis.values = [0, 25, 50, 75, 100]
    scale = alt.Scale(domain=list(domain), nice=False)
    base, color = alt.Chart(alt.Data(values=list(rows))), alt.Color("color:N", scale=None, legend=None)
    whole = alt.Chart(alt.Data(values=[row for row in rows if row["whole"]]))
    layers = [
        base.mark_bar(height=11, opacity=0.32)
        .encode(y=y, x=alt.X("zero:Q", scale=scale, axis=x_axis), x2="value:Q", color=color)
        .transform_calculate(zero="0"),
        whole.mark_rule(strokeDash=[3, 3], color=theme.muted).encode(x=alt.X("value:Q", scale=scale, axis=x_axis)),
        base.mark_rule(strokeWidth=1.4).encode(
            y=y, x=alt.X("low:Q", scale=scale, axis=x_axis), x2="high:Q", color=color
        ),
        base.mark_point(filled=True, size=38, opacity=1).encode(
            y=y, x=alt.X("value:Q", scale=scale, axis=x_axis), color=color
        ),
    ]
    if points:
        hollow = alt.Chart(alt.Data(values=list(points))).mark_point(
            shape="diamond", size=58, filled=False, strokeWidth=1.3, color=theme.ink, opacity=0.8
        )
        layers.append(hollow.encode(y=y, x=alt.X("value:Q", scale=scale, axis=x_axis)))
    return alt.LayerChart(
        layer=layers,
        title=alt.TitleParams(title, offset=4, fontSize=12),
        width=NARROW - 140 if narrow else 140,
        height=24 * len(order),
    )


def decoding_figure(
    run: Run, variant: Variant = "light", *, narrow: bool = False
) -> alt.HConcatChart | alt.VConcatChart:
    """Mean@k and Think #R as heat maps, temperature down and top-p across, each cell with its standard error.

    Colour spans at least four standard errors, so that noise does not look like a pattern.
    """
    theme = THEMES[variant]
    grid = decoding_grid(run)
    panels = [
        _heat(grid, "mean_at_k", f"Mean@{run.plan['k']} (%)", theme),
        _heat(grid, "think_ratio", "Think #R (%)", theme),
    ]
    joined = alt.vconcat(*panels, spacing=24) if narrow else alt.hconcat(*panels, spacing=40)
    return joined.resolve_scale(color="independent")


def _heat(grid: dict[tuple[float, float], SettingMetrics], metric: str, title: str, theme: Theme) -> alt.LayerChart:
    estimates: dict[tuple[float, float], Estimate] = {key: getattr(m, metric) for key, m in grid.items()}
    low, high = color_range(list(estimates.values()))
    rows = []
    for (temperature, top_p), (value, error) in estimates.items():
        shade = (100 * value - low) / (high - low)
        rows.append(
            {
                "t": f"{temperature:g}",
                "p": f"{top_p:g}",
                "value": 100 * value,
                "text": f"{100 * value:.1f}",
                "error": "" if math.isnan(error) else f"± {100 * error:.1f}",
                "ink": theme.background if shade > 0.55 else theme.ink,
            }
        )
    down, across = (sorted({key[i] for key in grid}) for i in (0, 1))
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X(
            "p:N",
            sort=[f"{v:g}" for v in across],
            axis=alt.Axis(title="top-p", labelAngle=0, domain=False, ticks=False),
        ),
        y=alt.Y("t:N", sort=[f"{v:g}" for v in down], axis=alt.Axis(title="temperature", labelColor=theme.ink)),
    )
    scale = alt.Scale(domain=[low, high], range=list(theme.heat), interpolate="lab", clamp=True)
    ink = alt.Color("ink:N", scale=None, legend=None)
    layers = [
        base.mark_rect(cornerRadius=2).encode(color=alt.Color("value:Q", scale=scale, legend=None)),
        base.mark_text(fontSize=12, dy=-6).encode(text="text:N", color=ink),
        base.mark_text(fontSize=10, dy=8).encode(text="error:N", color=ink),
    ]
    width, height = 58 * len(across), 44 * len(down)
    found = alt.LayerChart(layer=layers, title=alt.TitleParams(title, fontSize=12), width=width, height=height)
    return found.resolve_scale(color="independent")


def color_range(found: Sequence[Estimate]) -> tuple[float, float]:
    """Percent from palest to darkest: the values' range, but at least four of their standard errors, or one point."""
    values = [100 * estimate.value for estimate in found]
    errors = [100 * estimate.error for estimate in found if not math.isnan(estimate.error)]
    middle = (min(values) + max(values)) / 2
    reach = max((max(values) - min(values)) / 2, 2 * max(errors, default=0.0), 0.5)
    return middle - reach, middle + reach
