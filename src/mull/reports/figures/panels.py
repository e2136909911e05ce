"""One quantity against λ: curves with error bands, stages shaded, curves labelled where they end.

Knows curves and pixels, no metrics. A band is drawn over neighbouring λ whose error is known; a λ whose neighbours
have none gets an error bar, and an unknown error nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import altair as alt

from mull.reports.figures.theme import Theme

Z95 = 1.96
"""Standard errors to each side of the value: a 95 % interval."""
HEIGHT = 216
LINE = 13
"""Least distance between two labels, in pixels."""
HEADROOM = 18
"""Pixels above the frame that every panel takes below its title: the stages' names have room in them."""
LOW_HEADROOM = 7
"""The same where the stages have no names."""


class CurvePoint(NamedTuple):
    """A value at one λ and its standard error (NaN: not known), in the axis's unit."""

    lam: float
    value: float
    error: float = math.nan


@dataclass(frozen=True)
class Curve:
    """One named line, its points by rising λ."""

    name: str
    points: Sequence[CurvePoint]
    color: str
    shape: str = "circle"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """What a panel shows besides its curves."""

    title: str
    """Quantity with its unit."""
    curves: Sequence[Curve]
    stage_2: tuple[float, float] | None = None
    reference: Sequence[Curve] = field(default_factory=list)
    """Drawn thin and dashed, without points, behind the curves; grey unless they have a colour."""
    reference_name: Sequence[str] = ()
    """What the dashed curves are, one string a line."""
    top: float | None = None
    """Largest possible value, e.g. 100 %."""
    zero: bool = False
    """Whether the axis begins at 0."""
    width: int = 290
    height: int = HEIGHT
    x_title: str = "λ  (0 = Instruct, 1 = Thinking)"
    y_title: str = ""
    """Beside the axis, for panels in a grid, whose `title` is that of their column."""
    names: bool = True
    """Whether several curves are named where they end, and the stages above the frame."""


def draw(panel: Panel, theme: Theme) -> alt.LayerChart:
    """The panel as a layered chart of fixed size."""
    x, y = _x_domain(panel), _y_domain(panel)
    layers = [_headroom(HEADROOM if panel.names else LOW_HEADROOM), *_stages(panel, x, theme)]
    layers += _reference(panel, x, y, theme)
    bands, bars, lines, points = [], [], [], []
    for curve in panel.curves:
        kept = [p for p in curve.points if not math.isnan(p.value)]
        for i, run in enumerate(_runs(kept)):
            rows = [
                {"lam": p.lam, "low": max(0.0, p.value - Z95 * p.error), "high": _capped(p, panel.top), "run": i}
                for p in run
            ]
            (bands if len(rows) > 1 else bars).extend({"name": curve.name, "color": curve.color, **row} for row in rows)
        if len(kept) > 1:
            lines += [{"name": curve.name, "color": curve.color, "lam": p.lam, "value": p.value} for p in kept]
        points += [
            {"name": curve.name, "color": curve.color, "shape": curve.shape, "lam": p.lam, "value": p.value}
            for p in kept
        ]
    x_of = alt.X("lam:Q", scale=alt.Scale(domain=list(x), nice=False), axis=_x_axis(panel, x))
    y_scale = alt.Scale(domain=list(y), nice=False, zero=False)
    y_axis = _y_axis(panel, y)
    color = alt.Color("color:N", scale=None, legend=None)

    def chart(rows: list[dict]) -> alt.Chart:
        return alt.Chart(alt.Data(values=rows))

    y_of = alt.Y("value:Q", scale=y_scale, axis=y_axis)
    if bands:
        band = chart(bands).mark_area(opacity=0.14, interpolate="linear", line=False)
        layers.append(
            band.encode(
                x=x_of,
                y=alt.Y("low:Q", scale=y_scale, axis=y_axis),
                y2="high:Q",
                color=color,
                detail=["name:N", "run:N"],
            )
        )
    if bars:
        layers.append(
            chart(bars)
            .mark_rule(strokeWidth=1.4, opacity=0.7)
            .encode(x=x_of, y=alt.Y("low:Q", scale=y_scale, axis=y_axis), y2="high:Q", color=color)
        )
    if lines:
        layers.append(chart(lines).mark_line(strokeWidth=2).encode(x=x_of, y=y_of, color=color, detail="name:N"))
    shape = alt.Shape("shape:N", scale=None, legend=None)
    mark = chart(points).mark_point(size=34, filled=True, opacity=1, stroke=theme.background, strokeWidth=0.8)
    layers.append(mark.encode(x=x_of, y=y_of, color=color, shape=shape))
    if len(panel.curves) > 1 and panel.names:
        labels = chart(_end_labels(panel.curves, y, panel.height))
        text = labels.mark_text(align="left", baseline="middle", dx=9, fontSize=11.5)
        layers.append(text.encode(x=x_of, y=alt.Y("at:Q", scale=y_scale, axis=y_axis), text="name:N", color=color))
    title = alt.TitleParams(panel.title, offset=6 if panel.stage_2 else -2)
    if not panel.names:  # in a grid: over the frame, whatever stands beside it
        title = (
            alt.TitleParams(panel.title, frame="group", anchor="middle", offset=2, fontSize=12) if panel.title else ""
        )
    return alt.LayerChart(layer=layers, title=title, width=panel.width, height=panel.height)


def _headroom(pixels: int) -> alt.Chart:
    """An invisible mark: a title stands above whatever sticks out highest, which would differ between the panels."""
    strut = alt.Chart(alt.Data(values=[{}])).mark_tick(opacity=0)
    return strut.encode(x=alt.value(0), y=alt.value(-pixels))


def _capped(point: CurvePoint, top: float | None) -> float:
    high = point.value + Z95 * point.error
    return high if top is None else min(top, high)


def _runs(points: Sequence[CurvePoint]) -> list[list[CurvePoint]]:
    """Neighbouring points with a known error."""
    runs: list[list[CurvePoint]] = [[]]
    for point in points:
        if math.isnan(point.error):
            runs.append([])
        else:
            runs[-1].append(point)
    return [run for run in runs if run]


def _x_domain(panel: Panel) -> tuple[float, float]:
    lams = [p.lam for curve in panel.curves for p in curve.points]
    return min([0.0, *lams]), max([1.0, *lams])


def _y_axis(panel: Panel, domain: tuple[float, float]) -> alt.Axis:
    ticks = 5 if panel.height > 150 else 4
    return alt.Axis(title=panel.y_title or None, tickCount=ticks, format=",d" if domain[1] >= 20 else "~g")


def _x_axis(panel: Panel, domain: tuple[float, float]) -> alt.Axis:
    title = panel.x_title or None
    if domain == (0.0, 1.0):
        return alt.Axis(title=title, format="~g", labelFlush=False, values=[0, 0.2, 0.4, 0.6, 0.8, 1])
    return alt.Axis(title=title, format="~g", labelFlush=False, tickCount=6)


def _y_domain(panel: Panel) -> tuple[float, float]:
    if panel.top is not None and panel.zero:
        return 0.0, panel.top
    shown = [*panel.curves, *panel.reference]
    points = [p for curve in shown for p in curve.points if not math.isnan(p.value)]
    reach = [Z95 * (0.0 if math.isnan(p.error) else p.error) for p in points]
    low = min((p.value - r for p, r in zip(points, reach, strict=True)), default=0.0)
    high = max((p.value + r for p, r in zip(points, reach, strict=True)), default=1.0)
    pad = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    low = 0.0 if panel.zero else max(0.0, low - pad)
    return low, high + pad if panel.top is None else min(panel.top, high + pad)


def _stages(panel: Panel, x: tuple[float, float], theme: Theme) -> list[alt.Chart]:
    if panel.stage_2 is None:
        return []
    start, end = panel.stage_2
    edges = [(x[0], start), (start, end), (end, x[1])]
    middles = [((a + b) / 2, i) for i, (a, b) in enumerate(edges, start=1) if b > a]
    # Where two names would touch, numbers stand for all.
    gaps = [(b - a) / (x[1] - x[0]) * panel.width for (a, _), (b, _) in pairwise(middles)]
    rows = [{"at": at, "label": f"Stage {i}" if min(gaps, default=99) > 44 else str(i)} for at, i in middles]
    scale = alt.Scale(domain=list(x), nice=False)
    axis = _x_axis(panel, x)
    shade = alt.Chart(alt.Data(values=[{"start": start, "end": end}])).mark_rect(color=theme.shade, opacity=1)
    name = alt.Chart(alt.Data(values=rows)).mark_text(color=theme.muted, fontSize=10.5, baseline="bottom")
    found = [
        shade.encode(x=alt.X("start:Q", scale=scale, axis=axis), x2="end:Q", y=alt.value(0), y2=alt.value(panel.height))
    ]
    if panel.names:
        found.append(name.encode(x=alt.X("at:Q", scale=scale, axis=axis), y=alt.value(-5), text="label:N"))
    return found


def _reference(panel: Panel, x: tuple[float, float], y: tuple[float, float], theme: Theme) -> list[alt.Chart]:
    if not panel.reference:
        return []
    rows = [
        {"name": curve.name, "color": curve.color or theme.muted, "lam": p.lam, "value": p.value}
        for curve in panel.reference
        for p in curve.points
        if not math.isnan(p.value)
    ]
    scale, y_scale = alt.Scale(domain=list(x), nice=False), alt.Scale(domain=list(y), nice=False, zero=False)
    lines = alt.Chart(alt.Data(values=rows)).mark_line(strokeWidth=1.1, strokeDash=[4, 3], opacity=0.85)
    encoded = lines.encode(
        x=alt.X("lam:Q", scale=scale, axis=_x_axis(panel, x)),
        y=alt.Y("value:Q", scale=y_scale, axis=_y_axis(panel, y)),
        color=alt.Color("color:N", scale=None, legend=None),
        detail="name:N",
    )
    if not panel.reference_name:
        return [encoded]
    # The corner that the panel's own curves leave free: a rise leaves the lower right, else the upper left is free.
    late = [p.value for curve in panel.curves for p in curve.points if p.lam >= x[0] + 0.6 * (x[1] - x[0])]
    lower_right = not late or min(late) > y[0] + 0.4 * (y[1] - y[0])
    at = (panel.width - 4, panel.height - 8 - LINE * (len(panel.reference_name) - 1)) if lower_right else (6, 12)
    text = alt.Chart(alt.Data(values=[{"label": list(panel.reference_name)}])).mark_text(
        align="right" if lower_right else "left", baseline="middle", color=theme.muted, fontSize=10.5, lineHeight=LINE
    )
    return [encoded, text.encode(x=alt.value(at[0]), y=alt.value(at[1]), text="label:N")]


def _end_labels(curves: Sequence[Curve], y: tuple[float, float], height: int) -> list[dict]:
    """A label beside the last point of each curve, moved apart until none touches another, all within the frame."""
    per_pixel = (y[1] - y[0]) / height
    ends = [(curve, [p for p in curve.points if not math.isnan(p.value)]) for curve in curves]
    ends = [(curve, points[-1]) for curve, points in ends if points]
    ends.sort(key=lambda end: -end[1].value)
    at = within(spread([(y[1] - point.value) / per_pixel for _, point in ends], LINE), LINE, height)
    return [
        {"name": curve.name, "color": curve.color, "lam": point.lam, "at": y[1] - pixel * per_pixel}
        for (curve, point), pixel in zip(ends, at, strict=True)
    ]


def spread(positions: Sequence[float], distance: float) -> list[float]:
    """Sorted positions moved as little as needed until neighbours are at least `distance` apart."""
    groups: list[list[float]] = []  # [mean, count]: labels that touch move as one
    for position in positions:
        groups.append([position, 1])
        while len(groups) > 1 and groups[-1][0] - groups[-2][0] < distance * (groups[-1][1] + groups[-2][1]) / 2:
            mean, count = groups.pop()
            before = groups[-1]
            before[0] = (before[0] * before[1] + mean * count) / (before[1] + count)
            before[1] += count
    return [mean + distance * (i - (count - 1) / 2) for mean, count in groups for i in range(int(count))]


def within(positions: Sequence[float], distance: float, most: float) -> list[float]:
    """Sorted positions pushed into 0 … `most`, neighbours still `distance` apart, as far as there is room for all."""
    found = list(positions)
    for i in reversed(range(len(found))):
        found[i] = min(found[i], most - distance * (len(found) - 1 - i))
    for i in range(len(found)):
        found[i] = max(found[i], distance * i)
    return found
