"""σ(Instruct, Thinking) as a heat map: layers across, module kinds down."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import altair as alt

from mull.checkpoints.names import MODULE_KINDS
from mull.errors import MullError
from mull.folders import write_atomically
from mull.reports.figures.render import png, svg
from mull.reports.figures.theme import THEMES, Variant

if TYPE_CHECKING:
    from mull.geometry.relative_difference import RelativeDifference

OUTSIDE = "–"
"""The column of what belongs to no layer."""
_WIDTH, _NARROWEST, _WIDEST = 760, 15, 64
_SHOWN_FROM = 44
"""Cells at least this wide, in pixels, carry their value."""


def heatmap(difference: RelativeDifference, variant: Variant = "light") -> alt.LayerChart:
    """One cell per (layer, module kind), σ by colour from 0; cells wide enough also say it."""
    theme = THEMES[variant]
    layers = sorted({layer for layer, _ in difference.cells if layer is not None})
    columns = [str(layer) for layer in layers]
    if any(layer is None for layer, _ in difference.cells):
        columns.append(OUTSIDE)
    kinds = [kind for kind in MODULE_KINDS if any(found == kind for _, found in difference.cells)]
    top = max(difference.cells.values(), default=0.0) or 1.0
    rows = [
        {
            "layer": OUTSIDE if layer is None else str(layer),
            "module": kind,
            "sigma": value,
            "label": f"{value:.3f}",
            # Black or white, whichever the cell's colour is further from.
            "ink": theme.background if value / top > 0.55 else theme.ink,
        }
        for (layer, kind), value in difference.cells.items()
    ]
    cell = max(_NARROWEST, min(_WIDEST, _WIDTH / max(1, len(columns))))
    every = 1 if cell >= 22 else 2
    axis = alt.Axis(
        title="layer  (– = outside the layers)",
        labelAngle=0,
        domain=False,
        ticks=False,
        values=[name for i, name in enumerate(columns) if i % every == 0 or name == OUTSIDE],
    )
    x = alt.X("layer:N", sort=columns, scale=alt.Scale(domain=columns, paddingInner=0.04), axis=axis)
    y = alt.Y(
        "module:N",
        scale=alt.Scale(domain=kinds, paddingInner=0.06),
        axis=alt.Axis(title=None, labelFontSize=12, labelColor=theme.ink),
    )
    scale = alt.Scale(domain=[0, top], range=list(theme.heat), interpolate="lab")
    legend = alt.Legend(title="σ", format=".3~g", orient="right", gradientLength=120, gradientThickness=12, tickCount=4)
    base = alt.Chart(alt.Data(values=rows)).encode(x=x, y=y)
    charts = [base.mark_rect(cornerRadius=2).encode(color=alt.Color("sigma:Q", scale=scale, legend=legend))]
    if cell >= _SHOWN_FROM:
        text = base.mark_text(fontSize=11).encode(text="label:N", color=alt.Color("ink:N", scale=None, legend=None))
        charts.append(text)
    title = alt.TitleParams(
        f"σ(Instruct, Thinking) = {difference.overall:.4f} over all parameters",
        subtitle="Relative difference Σ|A−B| / (Σ|A| + Σ|B|) by layer and kind of module; 0 = equal weights",
        offset=12,
    )
    size = {"width": cell * max(1, len(columns)), "height": 36 * max(1, len(kinds))}
    return alt.LayerChart(layer=charts, title=title, **size).resolve_scale(color="independent")


def write_heatmap(difference: RelativeDifference, path: Path, variant: Variant = "light") -> None:
    """Write the heat map to `path`: SVG if its name ends in .svg, else PNG at twice the size.

    Raises:
        MullError: the file cannot be written.
    """
    figure = heatmap(difference, variant)
    if path.suffix.lower() == ".svg":
        write_atomically(path, svg(figure, variant, opaque=True).encode())
    elif path.suffix.lower() == ".png":
        write_atomically(path, png(figure, variant))
    else:
        raise MullError(f"{path} is neither PNG nor SVG by its name", "end it in .png or .svg")
