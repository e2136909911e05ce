"""SCE: selects the elements that vary most, computes model weights from them, erases elements of the minority sign."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from mull.merging.arithmetic.operations import Operation, block_of, merge_agreeing, sum_in_order, true_divide
from mull.merging.arithmetic.source import NotFinite, Source
from mull.merging.methods.base import Method, check_share

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Sce(Method):
    """b + Σ η_m·δ̂_m, per tensor (Wan et al. 2024, arXiv 2408.07990, section 3.3).

    Select: δ̂_m keeps the share `density` of the elements, those with the largest variance over the models. Calculate:
    η_m = Σ δ̂_m² / Σ_k Σ δ̂_k². Erase: elements whose sign is not that of Σ_m δ̂_m (+ if that is 0) are dropped, and the η
    of the remaining ones are divided by their sum.
    """

    name = "sce"
    about = "keeps what differs most, weighs models by it, elects signs"
    paper = "Wan et al. 2024, arXiv 2408.07990"
    coefficient = "alpha"
    default = 1.0
    base = "required"

    density: float = 0.1
    """Share of the elements that are selected; 0.1 is the paper's choice."""

    def __post_init__(self) -> None:
        check_share("density", self.density)

    def measure(self, source: Source, survey: Any) -> tuple[tuple[float, ...], float]:
        import numpy as np

        from mull.merging.arithmetic.order_statistics import kth_largest, largest_kept

        least = 0.0
        if self.density < 1 and source.numel:
            (least,) = kth_largest([source], [(StandardDeviation(), largest_kept(source.numel, self.density))])
        parts = [_squares(models, base, least) for models, base in source.blocks()]
        if not np.isfinite(parts).all():
            raise NotFinite(source.name, f"{source.name} holds NaN or infinity", "look for it with `mull inspect`")
        squares = np.array([math.fsum(part[m] for part in parts) for m in range(source.model_count)])
        weights = squares / squares.sum() if squares.any() else np.full(source.model_count, 1 / source.model_count)
        return tuple(weights.tolist()), least

    def operation(self, source: Source, coefficient: float, measured: Any) -> Operation:
        weights, least = measured
        return Fuse(weights, least, coefficient)


@dataclass(frozen=True)
class Fuse:
    """`Sce` on one tensor; `least` is the smallest standard deviation of the selected elements."""

    weights: tuple[float, ...]
    least: float
    scale: float
    align: int = 1
    position_dependent: bool = False
    device_independent: ClassVar[bool] = True

    def apply(self, models: list[Tensor], base: Tensor | None, out: Tensor, first: int) -> None:
        from mull.merging.arithmetic import compiled

        inputs = compiled.inputs(models, base)
        if inputs and compiled.supports(out):
            compiled.kernels.fuse(*inputs, compiled.memory(out), self.least, self.weights, self.scale)
            return
        assert base is not None
        block = block_of(out)
        for start in range(0, out.numel(), block):
            part = slice(start, start + block)
            out[part].copy_(self._fused([model[part] for model in models], base[part]))

    def _fused(self, models: list[Tensor], base: Tensor) -> Tensor:
        deltas = _selected(models, base, self.least)
        weighted = [delta * weight for delta, weight in zip(deltas, self.weights, strict=True)]
        return base.double() + self.scale * merge_agreeing(weighted, self.weights, mean=True, voters=deltas)


@dataclass(frozen=True)
class StandardDeviation:
    """The standard deviation over the models, as a `Size` (see `mull.merging.arithmetic.order_statistics`).

    It orders elements as the variance does, but the variance of small task vectors would underflow float32.
    """

    kernel = "spreads"
    model = 0

    def of(self, models: Sequence[Tensor], base: Tensor | None) -> Tensor:
        assert base is not None
        return _deviation([model.double() - base.double() for model in models])


def _squares(models: list[Tensor], base: Tensor | None, least: float) -> NDArray[np.float64]:
    """Σ δ̂_m² of each model: float64 `[models]`."""
    import numpy as np

    from mull.merging.arithmetic import compiled
    from mull.merging.arithmetic.angles import SUMS, ordered_sums

    inputs = compiled.inputs(models, base)
    if inputs:
        sums = np.empty(len(models))
        compiled.kernels.squares(*inputs, least, sums)
        return sums
    assert base is not None
    squares = np.zeros((len(models), -(-base.numel() // SUMS) * SUMS))
    for row, delta in zip(squares, _selected(models, base, least), strict=True):
        row[: base.numel()] = delta.square().numpy(force=True)
    return ordered_sums(squares)


def _selected(models: list[Tensor], base: Tensor, least: float) -> list[Tensor]:
    deltas = [model.double() - base.double() for model in models]
    selected = _deviation(deltas).float() >= least
    return [delta * selected for delta in deltas]


def _deviation(deltas: list[Tensor]) -> Tensor:
    if len(deltas) == 2:  # each of two numbers is half their distance away from their mean
        return (deltas[0] - deltas[1]).abs() * 0.5
    mean = true_divide(sum_in_order(deltas), len(deltas))
    return true_divide(sum_in_order([(delta - mean).square() for delta in deltas]), len(deltas)).sqrt()
