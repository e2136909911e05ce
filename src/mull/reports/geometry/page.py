"""The page of the pilot study: the answer, heat maps, loss curves, weights, the run's frontier, and how it was made."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from mull import __version__
from mull.analysis.frontier import non_dominated, points_of
from mull.geometry.study import Study
from mull.reports.figures.frontier import frontier_figure
from mull.reports.figures.heatmap import heatmap
from mull.reports.figures.render import Figure
from mull.reports.figures.theme import Variant
from mull.reports.format import NONE, fixed
from mull.reports.geometry import figures
from mull.reports.geometry.tables import (
    curve_table,
    layers_table,
    loss_table,
    summary_table,
    violations_table,
    weights_table,
)
from mull.reports.geometry.words import sentences, verdict
from mull.reports.html.content import Contents, Details, Link, Pairs, Paragraph, Part, Section, Tabular, panels
from mull.reports.html.page import Fact
from mull.reports.html.render import encode, render
from mull.reports.table import Table
from mull.runs.sessions.pilot import Pilot

_NARROW = (330, 330)
RECONSTRUCTION = (
    "A reconstruction: Yang et al. 2026 (“System 1&2 Synergy via Dynamic Model Interpolation”, DAMI, arXiv 2601.21414) "
    "report a pilot study after which interpolation gives a convex, monotonic Pareto frontier, underpinned by "
    "representation continuity and structural connectivity. Only their abstract could be read, not how they measured "
    "it. CKA is that of Kornblith et al. 2019 (arXiv 1905.00414), from unbiased estimates per text (Nguyen et al. "
    "2021, arXiv 2010.15327); the loss barrier is that of Frankle et al. 2020 (arXiv 1912.05671), with the loss on "
    "held-out responses in place of the test error; the control is mull’s own."
)
_CONTROL = (
    "The control: the same pair with the rows of Thinking’s weights in random order; a colour means the same on both "
    "sides."
)


def page(pilot: Pilot) -> str:
    """The whole page as text."""
    study = pilot.study
    sections = [_continuity(study), _linearity(study), _barrier(study), _weights(pilot)]
    if pilot.frontier:
        sections.append(_frontier(pilot))
    sections += [_measures(study), _made(pilot)]
    return render(
        "geometry.html",
        kind="geometry",
        skip_to="findings",
        title=pilot.title,
        scope=f"Pilot study · {study.questions:,} questions × responses of both ends × {len(study.lams)} λ",
        incomplete=None,
        facts=_facts(study),
        words=verdict(study),
        sentences=sentences(pilot),
        contents=[Contents([(section.key, section.title) for section in sections])],
        sections=sections,
        footer=f"Made by mull {__version__}.",
        data=encode({"responses": []}),
    )


def _facts(study: Study) -> list[Fact]:
    pair, control = study.pair, study.control
    barrier = max(pair.barriers.values(), key=lambda each: each.height.value)
    return [
        Fact("Lowest CKA of neighbouring λ", fixed(pair.lowest_cka.value, 4), f"control {_short(control.lowest_cka)}"),
        Fact(
            "Loss barrier",
            fixed(barrier.height.value, 2) if barrier.stands else "none",
            f"nats per token; control {_short(control.barriers['both'].height)}",
        ),
        Fact(
            "Largest linearity error",
            NONE if math.isnan(pair.largest_linearity.value) else fixed(pair.largest_linearity.value, 2),
            f"of the ends’ distance; control {_short(control.largest_linearity)}",
        ),
    ]


def _short(interval: tuple[float, float, float]) -> str:
    return f"{fixed(interval[0], 2)} [{fixed(interval[1], 2)} to {fixed(interval[2], 2)}]"


def _beside(
    name: str, draw: Callable[[Study, Variant], Sequence[Figure]], study: Study, labels: Sequence[str], caption: str
) -> Part:
    return panels(name, lambda variant: draw(study, variant), labels, caption)


def _continuity(study: Study) -> Section:
    labels = [
        f"Heat map of layers over λ, {side}: lowest {measure} {fixed(lowest.value, 4)}"
        for measure, key in (("CKA", "lowest_cka"), ("cosine", "lowest_cosine"))
        for side, lowest in (("pair", getattr(study.pair, key)), ("control", getattr(study.control, key)))
    ]
    links = (Link("continuity.csv", "CSV"), Link("layers.csv", "by layer"))
    return Section(
        "continuity",
        "Representation continuity",
        [
            Paragraph(
                "Hidden states of each λ against those of the λ before, on the same tokens: the stronger a cell’s "
                "colour, the more the layer’s representation changes in this step."
            ),
            _beside(
                "cka",
                figures.cka_grids,
                study,
                labels[:2],
                f"1 − CKA; 0 = the same up to rotation and scale. {_CONTROL}",
            ),
            _beside("cosine", figures.cosine_grids, study, labels[2:], "1 − mean cosine of a token’s hidden states."),
            Details("Table by layer", [Tabular(layers_table(study))]),
            Paragraph("All values with their intervals:", note=True, links=links),
        ],
    )


def _linearity(study: Study) -> Section:
    labels = [
        f"Heat map of layers over λ, {name}: largest linearity error {_short(side.largest_linearity)}"
        for name, side in (("pair", study.pair), ("control", study.control))
    ]
    caption = "‖h_λ − ((1−λ)·h_0 + λ·h_1)‖ / ‖h_1 − h_0‖: 0 on the straight line. Blank where the ends are equal."
    note = Paragraph("All values with their intervals:", note=True, links=[Link("linearity.csv", "CSV")])
    return Section(
        "linearity",
        "Distance from the straight line",
        [_beside("linearity", figures.linearity_grids, study, labels, caption), note],
    )


def _barrier(study: Study) -> Section:
    labels = [
        f"Loss over λ on {name}: {', '.join(fixed(value, 2) for value in study.pair.barriers[key].loss.value)}"
        for key, name in (
            ("instruct", "Instruct’s responses"),
            ("thinking", "Thinking’s responses"),
            ("both", "both, pair and control"),
        )
    ]
    caption = (
        "Nats per token of held-out responses. Dashed: the straight line between the ends; a barrier is how far the "
        "curve rises above it. Bands: 95 %, questions resampled."
    )
    return Section(
        "barrier",
        "Loss barrier",
        [
            _beside("loss", figures.loss_panels, study, labels, caption),
            Details("Loss and excess at every λ", [Tabular(loss_table(study))]),
            Paragraph("All values with their intervals:", note=True, links=[Link("loss.csv", "CSV")]),
        ],
    )


def _weights(pilot: Pilot) -> Section:
    figure = panels(
        "weights",
        lambda variant: [heatmap(pilot.weights, variant), figures.weight_grid(pilot.weights, variant)],
        [f"Relative difference of the weights by layer and module kind, {pilot.weights.overall:.4f} overall"] * 2,
        "Σ|A−B| / (Σ|A| + Σ|B|) of Instruct’s and Thinking’s weights; 0 = equal.",
        versions=("wide-only", "narrow-only"),
    )
    table = Details("Table by layer", [Tabular(weights_table(pilot.weights))])
    note = Paragraph("All values:", note=True, links=[Link("weights.csv", "CSV")])
    return Section("weights", "Weight differences", [figure, table, note])


def _frontier(pilot: Pilot) -> Section:
    assert pilot.frontier is not None
    found = non_dominated(points_of(pilot.metrics))
    figure = panels(
        "frontier",
        lambda v: [
            frontier_figure(pilot.metrics, found, v),
            frontier_figure(pilot.metrics, found, v, _NARROW),
        ],
        ["Accuracy over tokens along the λ of the run"] * 2,
        "The dotted line joins the λ in their order. Bars: ±1.96 standard errors (95 %), clustered by question.",
        versions=("wide-only", "narrow-only"),
    )
    violations = violations_table(pilot.frontier)
    parts: list[Part] = [figure, Paragraph(sentences(pilot)[-1])]
    if violations.rows:
        parts += [Tabular(violations), Paragraph(f"{violations.legend}.", note=True)]
    parts.append(Details("Tokens and accuracy at every λ", [Tabular(curve_table(pilot.frontier))]))
    links = [Link("frontier.csv", "CSV"), Link("violations.csv", "violations")]
    return Section("frontier", "Shape of the frontier", [*parts, Paragraph("All values:", note=True, links=links)])


def _measures(study: Study) -> Section:
    table: Table = summary_table(study)
    links = [Link("summary.csv", "CSV")]
    return Section("measures", "All measures", [Tabular(table), Paragraph(f"{table.legend}.", note=True, links=links)])


def _made(pilot: Pilot) -> Section:
    pairs = Pairs([(name, str(value)) for name, value in pilot.setup.items()])
    return Section("made", "How it was made", [Paragraph(RECONSTRUCTION), pairs])
