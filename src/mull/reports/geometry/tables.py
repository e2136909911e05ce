"""The tables of the pilot study, for page, terminal and CSV."""

from __future__ import annotations

import math
from itertools import pairwise

from mull.analysis.choosing.headroom import Interval
from mull.checkpoints.names import MODULE_KINDS, ModuleKind
from mull.geometry.frontier_shape import FrontierShape
from mull.geometry.relative_difference import RelativeDifference
from mull.geometry.study import Study
from mull.reports.geometry.words import STYLES
from mull.reports.table import Cell, Column, Row, Table
from mull.runs.sessions.pilot import Pilot

_INTERVALS = "With 95 % intervals from resampled questions"


def geometry_tables(pilot: Pilot) -> list[Table]:
    """All tables; their names are those of their CSV files."""
    study = pilot.study
    tables = [summary_table(study), layers_table(study), continuity_table(study), linearity_table(study)]
    tables += [loss_table(study), weights_table(pilot.weights)]
    return [*tables, *([curve_table(pilot.frontier), violations_table(pilot.frontier)] if pilot.frontier else [])]


def layer_names(states: int) -> list[str]:
    """Names of the hidden states: that of the embedding, then the layers from 0 as in parameters' names."""
    return ["embedding", *(str(layer) for layer in range(states - 1))]


def summary_table(study: Study) -> Table:
    """One measure a row, the pair beside the control."""
    sides = study.pair, study.control
    rows = [
        Row(name, [_cell(getattr(side, key)) for side in sides], key=key)
        for key, name in {
            "lowest_cka": "lowest CKA",
            "mean_cka": "mean CKA",
            "lowest_cosine": "lowest cosine",
            "largest_linearity": "linearity error",
        }.items()
    ]
    rows += [
        Row(
            f"barrier, {name.removesuffix(' responses')}",
            [_cell(side.barriers[key].height) for side in sides],
            key=f"barrier_{key}",
        )
        for key, name in STYLES.items()
    ]
    rows.append(
        Row("excess inside, both", [_cell(side.barriers["both"].inside) for side in sides], key="largest_excess")
    )
    return Table(
        name="summary",
        title="The pair beside its control",
        caption="CKA and cosine of neighbouring λ over all layers; linearity error: the largest; loss barriers on "
        f"the responses of each end, and the largest excess strictly between the ends: nats per token. {_INTERVALS}",
        head="measure",
        columns=[_column("pair", "pair"), _column("control", "control")],
        rows=rows,
    )


def layers_table(study: Study) -> Table:
    """One hidden state a row: its lowest CKA and cosine, and its largest linearity error, over λ."""
    rows = []
    for i, name in enumerate(layer_names(len(study.pair.cka.value))):
        cells = []
        for side in (study.pair, study.control):
            cells += [_cell(side.cka.at(i, int(side.cka.value[i].argmin())))]
            cells += [_cell(side.cosine.at(i, int(side.cosine.value[i].argmin())))]
            cells += [_cell(side.linearity.at(i, int(side.linearity.value[i].argmax())))]
        rows.append(Row(name, cells))
    return Table(
        name="layers",
        title="Each layer at the λ where it changes most",
        caption=f"CKA and cosine of neighbouring λ: the lowest; linearity error: the largest. {_INTERVALS}",
        head="layer",
        columns=[
            Column(key=f"{side}_{key}", head=f"{word}{head}", decimals=4, interval=True)
            for side, word in {"pair": "", "control": "control’s "}.items()
            for key, head in {"cka": "CKA", "cosine": "cosine", "linearity": "linearity"}.items()
        ],
        rows=rows,
    )


def continuity_table(study: Study) -> Table:
    """One row per layer and pair of neighbouring λ."""
    rows = [
        Row(
            name,
            [
                Cell(low),
                Cell(high),
                *(_cell(band.at(i, j)) for side in (study.pair, study.control) for band in (side.cka, side.cosine)),
            ],
        )
        for i, name in enumerate(layer_names(len(study.pair.cka.value)))
        for j, (low, high) in enumerate(pairwise(study.lams))
    ]
    return Table(
        name="continuity",
        title="CKA and cosine of neighbouring λ",
        caption=_INTERVALS,
        head="layer",
        columns=[
            Column(key="lambda", head="λ", decimals=2),
            Column(key="next", head="next λ", decimals=2),
            *(_column(f"{side}_{key}", key, side) for side in ("pair", "control") for key in ("cka", "cosine")),
        ],
        rows=rows,
    )


def linearity_table(study: Study) -> Table:
    """One row per layer and λ between the ends."""
    rows = [
        Row(name, [Cell(lam), *(_cell(side.linearity.at(i, j)) for side in (study.pair, study.control))])
        for i, name in enumerate(layer_names(len(study.pair.linearity.value)))
        for j, lam in list(enumerate(study.lams))[1:-1]
    ]
    return Table(
        name="linearity",
        title="Linearity error of hidden states",
        caption=_INTERVALS,
        head="layer",
        columns=[Column(key="lambda", head="λ", decimals=2), _column("pair", "pair"), _column("control", "control")],
        rows=rows,
    )


def loss_table(study: Study) -> Table:
    """One λ a row, under the style of the responses: loss, and excess over the straight line between the ends."""
    rows = [
        Row(
            f"{lam:g}",
            [
                _cell(band.at(i))
                for side in (study.pair, study.control)
                for band in (side.barriers[style].loss, side.barriers[style].excess)
            ],
            section=name,
        )
        for style, name in STYLES.items()
        for i, lam in enumerate(study.lams)
    ]
    return Table(
        name="loss",
        title="Loss along λ",
        caption=f"Nats per token of held-out responses; excess: over the straight line between the ends. {_INTERVALS}",
        head="λ",
        key="lambda",
        columns=[_column(f"{side}_{key}", key, side) for side in ("pair", "control") for key in ("loss", "excess")],
        rows=rows,
    )


def weights_table(weights: RelativeDifference) -> Table:
    """σ by layer and module kind, and overall."""
    kinds: list[ModuleKind] = [kind for kind in MODULE_KINDS if any(kind == each for _, each in weights.cells)]
    layers = dict.fromkeys(layer for layer, _ in weights.cells)
    return Table(
        name="weights",
        title="Relative difference σ of the weights",
        caption=f"σ = Σ|A−B| / (Σ|A| + Σ|B|), 0 = equal; over all parameters {weights.overall:.4f}",
        head="layer",
        columns=[Column(key=kind, head=kind, decimals=4) for kind in kinds],
        rows=[
            Row(
                "outside" if layer is None else str(layer),
                [Cell(weights.cells.get((layer, kind), math.nan)) for kind in kinds],
            )
            for layer in layers
        ],
    )


def curve_table(shape: FrontierShape) -> Table:
    """One λ of the run a row."""
    return Table(
        name="frontier",
        title="Tokens and accuracy along the run’s λ",
        caption=f"On the {shape.questions:,} questions that every λ has answered. {_INTERVALS}",
        head="λ",
        key="lambda",
        columns=[
            Column(key="tokens", head="Token #N", interval=True),
            Column(key="accuracy", head="right", unit="%", scale=100, interval=True),
        ],
        rows=[Row(f"{point.lam:g}", [_cell(point.tokens), _cell(point.accuracy)]) for point in shape.points],
    )


def violations_table(shape: FrontierShape) -> Table:
    """One violation of the frontier's shape a row."""
    n, rows = len(shape.points), []
    for violation in shape.violations:
        tokens = violation.kind == "tokens fall"
        factor = 1 if tokens else 100
        size = Interval(*(factor * part for part in violation.size))
        unit = "tokens" if tokens else "points"
        word = "supported" if violation.supported else "within noise"
        where = " → ".join(f"{lam:g}" for lam in violation.lams)
        rows.append(Row(violation.kind, [where, _cell(size), unit, word]))
    return Table(
        name="violations",
        title="Where the frontier is not monotone or not concave",
        caption=f"Of {2 * (n - 1) + n - 2} places looked at, each is judged by itself: supported where its interval "
        f"excludes 0. {_INTERVALS}",
        head="violation",
        columns=[
            Column(key="lambdas", head="λ", decimals=None),
            Column(key="size", head="by", decimals=2, interval=True),
            Column(key="unit", head="in", decimals=None),
            Column(key="verdict", head="verdict", decimals=None),
        ],
        rows=rows,
    )


def _column(key: str, head: str, group: str = "") -> Column:
    return Column(key=key, head={"cka": "CKA"}.get(head, head), group=group, decimals=4, interval=True)


def _cell(interval: Interval) -> Cell:
    return Cell(interval.value, low=interval.low, high=interval.high)
