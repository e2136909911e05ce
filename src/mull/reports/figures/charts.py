"""The figures of a report as Altair charts: one specification gives HTML, PNG and SVG (`mull.reports.figures.render`).

Bands and bars are 95 % intervals: ±1.96 standard errors, clustered by question.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import altair as alt

from mull.analysis.metrics import Estimate, SettingMetrics
from mull.analysis.stages import Stages
from mull.analysis.tables import PublishedRow
from mull.reports.figures.frontier import frontier_figure
from mull.reports.figures.panels import Curve, CurvePoint, Panel, draw
from mull.reports.figures.theme import THEMES, Variant
from mull.reports.format import at, common_k, per_question, stage_bounds

__all__ = [
    "frontier_figure",
    "stage_panels",
    "stages_figure",
    "strata_figure",
    "strata_panels",
]

MOST_STRATA = 6
"""More classes than this are told apart by neither colour nor label: their figure shows the first ones only."""

_SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")


def stage_panels(
    metrics: Sequence[SettingMetrics],
    stages: Stages | None,
    variant: Variant = "light",
    overlay: Sequence[PublishedRow] = (),
) -> list[alt.LayerChart]:
    """Performance, Think #R and Token #N against λ with the stages: the layout of figure 3 in Wu et al. 2025
    (arXiv 2510.10977).

    `overlay` adds the Think #R published on the same benchmark, thin and dashed. Settings without λ are left out.
    """
    theme = THEMES[variant]
    sweep = [m for m in metrics if m.lam is not None]
    stage_2 = stage_bounds(stages)
    published = _published(overlay)
    return [
        draw(Panel(title="Performance (%)", curves=_performance(sweep, theme.series), stage_2=stage_2, top=100), theme),
        draw(
            Panel(
                title="Think #R (% of responses)",
                curves=[_curve("Think #R", sweep, lambda m: m.think_ratio, theme.series[0], 100)],
                stage_2=stage_2,
                reference=published,
                reference_name=["dashed: Qwen3-4B", "(Wu et al. 2025)"],
                top=100,
                zero=True,
            ),
            theme,
        ),
        draw(
            Panel(
                title="Token #N (tokens per response)",
                curves=[_curve("Token #N", sweep, lambda m: m.tokens, theme.series[0])],
                stage_2=stage_2,
                zero=True,
            ),
            theme,
        ),
    ]


def stages_figure(
    metrics: Sequence[SettingMetrics],
    stages: Stages | None,
    variant: Variant = "light",
    overlay: Sequence[PublishedRow] = (),
) -> alt.HConcatChart:
    """`stage_panels` side by side."""
    return alt.hconcat(*stage_panels(metrics, stages, variant, overlay), spacing=28)


def strata_panels(
    strata: Mapping[str, Sequence[SettingMetrics]], stages: Stages | None, variant: Variant = "light"
) -> list[alt.LayerChart]:
    """Mean@k, Think #R and Token #N against λ, one curve per difficulty class (the first six)."""
    theme = THEMES[variant]
    shown = {name: [m for m in found if m.lam is not None] for name, found in list(strata.items())[:MOST_STRATA]}
    k = per_question([m for found in shown.values() for m in found])

    def panel(title: str, value: Callable[[SettingMetrics], Estimate], factor: float, **more) -> alt.LayerChart:
        curves = [
            _curve(name or "(none)", found, value, theme.series[i], factor, _SHAPES[i])
            for i, (name, found) in enumerate(shown.items())
        ]
        return draw(Panel(title=title, curves=curves, stage_2=stage_bounds(stages), **more), theme)

    return [
        panel(f"{at('Mean', k)} (%)", lambda m: m.mean_at_k, 100, top=100),
        panel("Think #R (% of responses)", lambda m: m.think_ratio, 100, top=100, zero=True),
        panel("Token #N (tokens per response)", lambda m: m.tokens, 1, zero=True),
    ]


def strata_figure(
    strata: Mapping[str, Sequence[SettingMetrics]], stages: Stages | None, variant: Variant = "light"
) -> alt.HConcatChart:
    """`strata_panels` side by side."""
    return alt.hconcat(*strata_panels(strata, stages, variant), spacing=28)


def _performance(sweep: Sequence[SettingMetrics], colors: Sequence[str]) -> list[Curve]:
    each, k = per_question(sweep), common_k(sweep)
    curves = [_curve(at("Mean", each), sweep, lambda m: m.mean_at_k, colors[0], 100)]
    # With one sample per question all three are the same number.
    if k != 1:
        curves.append(_curve(at("Pass", k), sweep, lambda m: m.pass_at_k, colors[1], 100, "square"))
    if each != 1:
        curves.append(_curve(at("Vote", each), sweep, lambda m: m.vote_at_k, colors[2], 100, "triangle-up"))
    return [curve for curve in curves if any(p.value == p.value for p in curve.points)]


def _curve(
    name: str,
    sweep: Sequence[SettingMetrics],
    value: Callable[[SettingMetrics], Estimate],
    color: str,
    factor: float = 1,
    shape: str = "circle",
) -> Curve:
    points = [CurvePoint(m.lam, factor * value(m).value, factor * value(m).error) for m in sweep if m.lam is not None]
    return Curve(name, points, color, shape)


def _published(rows: Sequence[PublishedRow]) -> list[Curve]:
    found: dict[str, list[CurvePoint]] = {}
    for row in rows:
        if row.lam is not None:
            found.setdefault(row.benchmark, []).append(CurvePoint(row.lam, 100 * row.think_ratio))
    return [Curve(name, sorted(points), "") for name, points in found.items()]
