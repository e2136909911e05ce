"""A heat map of rows by columns, one colour scale for several of them side by side. Knows no measure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt

from mull.reports.figures.theme import THEMES, Variant

_WIDTH = 300
_TALL, _FLAT = 24, 11
"""Pixels of a row where there are few and where there are many."""
_HEIGHT = 420
_SHOWN_FROM = 46
"""Cells at least this wide, in pixels, carry their value."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What a heat map shows."""

    title: str
    subtitle: str = ""
    rows: Sequence[str]
    """Names, from the top."""
    columns: Sequence[str]
    values: Sequence[Sequence[float]]
    """By row and column; NaN is left blank."""
    domain: tuple[float, float]
    """Values of the lightest and the darkest colour; what lies outside takes the nearest."""
    logarithmic: bool = False
    x_title: str = ""
    y_title: str = "layer"
    legend: str = ""
    width: int = _WIDTH


def draw_grid(grid: Grid, variant: Variant) -> alt.LayerChart:
    """One cell per row and column, little to much as light to dark (in the dark theme the other way round)."""
    theme = THEMES[variant]
    low, high = (math.log10(end) if grid.logarithmic else end for end in grid.domain)
    cells = []
    for row, values in zip(grid.rows, grid.values, strict=True):
        for column, value in zip(grid.columns, values, strict=True):
            if math.isnan(value):
                continue
            at = math.log10(max(value, grid.domain[0])) if grid.logarithmic else value
            dark = (at - low) / (high - low) > 0.55
            ink = theme.background if dark else theme.ink
            cells.append({"row": row, "column": column, "at": at, "label": f"{value:.3f}", "ink": ink})
    height = max(_FLAT, min(_TALL, _HEIGHT / len(grid.rows)))
    wide = grid.width / len(grid.columns)
    every = max(1, math.ceil(15 / height)), max(1, math.ceil((5 + 7 * max(map(len, grid.columns))) / wide))
    x = alt.X(
        "column:N",
        sort=list(grid.columns),
        scale=alt.Scale(domain=list(grid.columns), paddingInner=0.05),
        axis=alt.Axis(
            title=grid.x_title or None, labelAngle=0, domain=False, ticks=False, values=list(grid.columns)[:: every[1]]
        ),
    )
    y = alt.Y(
        "row:N",
        sort=list(grid.rows),
        scale=alt.Scale(domain=list(grid.rows), paddingInner=0.06),
        axis=alt.Axis(
            title=grid.y_title or None, labelPadding=6, ticks=False, values=list(grid.rows)[:: every[0]], grid=False
        ),
    )
    marks = [round(low) + i for i in range(round(high) - round(low) + 1)] if grid.logarithmic else None
    legend = alt.Legend(
        title=grid.legend or None,
        orient="bottom",
        direction="horizontal",
        gradientLength=min(230, grid.width),
        gradientThickness=9,
        titleAnchor="start",
        **({"values": marks, "labelExpr": "format(pow(10, datum.value), '~g')"} if marks else {"tickCount": 4}),  # type: ignore[arg-type]
    )
    scale = alt.Scale(domain=[low, high], range=list(theme.heat), interpolate="lab", clamp=True)
    base = alt.Chart(alt.Data(values=cells)).encode(x=x, y=y)
    layers = [base.mark_rect(cornerRadius=1).encode(color=alt.Color("at:Q", scale=scale, legend=legend))]
    if wide >= _SHOWN_FROM and height >= 14:
        layers.append(
            base.mark_text(fontSize=10.5).encode(text="label:N", color=alt.Color("ink:N", scale=None, legend=None))
        )
    title = alt.TitleParams(grid.title, subtitle=grid.subtitle, offset=8)
    size = {"width": grid.width, "height": height * len(grid.rows)}
    return alt.LayerChart(layer=layers, title=title, **size).resolve_scale(color="independent")
