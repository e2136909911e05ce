"""The figures of the pilot study: heat maps of layers over λ, loss curves, weight differences."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np

from mull.checkpoints.names import MODULE_KINDS, ModuleKind
from mull.geometry.relative_difference import RelativeDifference
from mull.geometry.study import Banded, Barrier, Study
from mull.reports.figures.grid import Grid, draw_grid
from mull.reports.figures.panels import Z95, Curve, CurvePoint, Panel, draw
from mull.reports.figures.theme import THEMES, Theme, Variant
from mull.reports.geometry.tables import layer_names

_DISTANCES = (1e-4, 1.0)
"""Of 1 − CKA and 1 − cosine: what is smaller has the lightest colour."""


def cka_grids(study: Study, variant: Variant) -> list[alt.LayerChart]:
    """1 − CKA of neighbouring λ, pair and control."""
    return _distances(study, [study.pair.cka, study.control.cka], "1 − CKA", variant)


def cosine_grids(study: Study, variant: Variant) -> list[alt.LayerChart]:
    """1 − cosine of neighbouring λ, pair and control."""
    return _distances(study, [study.pair.cosine, study.control.cosine], "1 − cosine", variant)


def linearity_grids(study: Study, variant: Variant) -> list[alt.LayerChart]:
    """The linearity error at every λ between the ends, pair and control."""
    found = [side.linearity.value[:, 1:-1] for side in (study.pair, study.control)]
    top = max(float(np.nan_to_num(values).max()) for values in found)
    return [
        _grid(title, values, study.lams[1:-1], (0.0, top or 1.0), False, "λ", "linearity error", variant)
        for title, values in zip(("The pair", "The control"), found, strict=True)
    ]


def _distances(study: Study, bands: Sequence[Banded], measure: str, variant: Variant) -> list[alt.LayerChart]:
    x_title, legend = "λ, against the λ before", f"{measure} (logarithmic)"
    return [
        _grid(title, 1 - band.value, study.lams[1:], _DISTANCES, True, x_title, legend, variant)
        for title, band in zip(("The pair", "The control"), bands, strict=True)
    ]


def _grid(
    title: str,
    values: np.ndarray,
    lams: Sequence[float],
    domain: tuple[float, float],
    logarithmic: bool,
    x_title: str,
    legend: str,
    variant: Variant,
) -> alt.LayerChart:
    grid = Grid(
        title=title,
        rows=layer_names(len(values)),
        columns=[f"{lam:g}" for lam in lams],
        values=values.tolist(),
        domain=domain,
        logarithmic=logarithmic,
        x_title=x_title,
        legend=legend,
    )
    return draw_grid(grid, variant)


def loss_panels(study: Study, variant: Variant) -> list[alt.LayerChart]:
    """Loss over λ with the straight line between the ends dashed: the pair by style, then pair and control."""
    theme = THEMES[variant]
    styles = {"instruct": "On Instruct’s responses", "thinking": "On Thinking’s responses"}
    panels = [_loss_panel(title, study, {"pair": study.pair.barriers[style]}, theme) for style, title in styles.items()]
    both = {"pair": study.pair.barriers["both"], "control": study.control.barriers["both"]}
    return [*panels, _loss_panel("Pair and control, both kinds", study, both, theme)]


def _loss_panel(title: str, study: Study, barriers: dict[str, Barrier], theme: Theme) -> alt.LayerChart:
    curves, lines = [], []
    for (name, barrier), color, shape in zip(barriers.items(), theme.series, ("circle", "square"), strict=False):
        loss = barrier.loss
        errors = (loss.high - loss.low) / (2 * Z95)
        points = [CurvePoint(*each) for each in zip(study.lams, loss.value.tolist(), errors.tolist(), strict=True)]
        curves.append(Curve(name, points, color, shape))
        ends = (points[0], points[-1])
        lines.append(Curve(name, [CurvePoint(p.lam, p.value) for p in ends], color if len(barriers) > 1 else ""))
    return draw(Panel(title=title, curves=curves, reference=lines, zero=True), theme)


def weight_grid(weights: RelativeDifference, variant: Variant) -> alt.LayerChart:
    """σ by layer (down) and module kind (across), which fits a narrow page."""
    layers = list(dict.fromkeys(layer for layer, _ in weights.cells))
    kinds: list[ModuleKind] = [kind for kind in MODULE_KINDS if any(kind == each for _, each in weights.cells)]
    grid = Grid(
        title="σ(Instruct, Thinking)",
        rows=["outside" if layer is None else str(layer) for layer in layers],
        columns=kinds,
        values=[[weights.cells.get((layer, kind), float("nan")) for kind in kinds] for layer in layers],
        domain=(0.0, max(weights.cells.values(), default=0.0) or 1.0),
        legend="σ",
    )
    return draw_grid(grid, variant)
