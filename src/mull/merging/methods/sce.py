"""SCE: select what varies, weigh the models by it, erase the minority's sign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from mull.errors import MullError
from mull.merging.methods.base import Method, check_share
from mull.merging.operations import Operation
from mull.merging.source import Source

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Sce(Method):
    """b + Σ η_m·δ̂_m, per tensor (Wan et al. 2024, arXiv 2408.07990, section 3.3).

    Select: δ̂_m keeps the elements whose variance over the models is among the largest `density`. Calculate: η_m is the
    share of Σ δ̂_m² in that of all models. Erase: the elements whose sign is not that of Σ δ̂_m (+ where that is 0) are
    dropped, and the η of those that remain are made to sum to 1.
    """

    name = "sce"
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

        from mull.merging.order import kth_largest, largest_kept

        least = 0.0
        if self.density < 1 and source.count:
            least = kth_largest([_Deviations(source)], 0, largest_kept(source.count, self.density))
        parts = []
        for models, base in source.blocks():
            assert base is not None
            deltas, selected = _select(models, base, least)
            parts.append([float((delta * selected).square().sum()) for delta in deltas])
        squares = np.array([float(np.sum([part[m] for part in parts])) for m in range(source.number)])
        if not np.isfinite(squares).all():
            raise MullError(f"{source.name} holds NaN or infinity", "look for the checkpoint with `mull inspect`")
        weights = squares / squares.sum() if squares.any() else np.full(source.number, 1 / source.number)
        return tuple(weights.tolist()), least

    def operation(self, source: Source, coefficient: float, measured: Any) -> Operation:
        weights, least = measured
        return _Fuse(weights, least, coefficient)


@dataclass(frozen=True)
class _Fuse:
    weights: tuple[float, ...]
    least: float
    scale: float
    align: int = 1
    anywhere: ClassVar[bool] = True

    def into(self, models: list[Tensor], base: Tensor | None, out: Tensor, first: int) -> None:
        from mull.merging.operations import merge_agreeing

        assert base is not None
        deltas, selected = _select(models, base, self.least)
        deltas = [delta * selected for delta in deltas]
        weighted = [delta * weight for delta, weight in zip(deltas, self.weights, strict=True)]
        out.copy_(base.double() + self.scale * merge_agreeing(weighted, self.weights, mean=True, voters=deltas))


@dataclass(frozen=True)
class _Deviations:
    """The tensor's standard deviations over the models as if they were a model's values.

    They stand for the variances, whose order they have: those of small task vectors would underflow float32.
    """

    source: Source

    name = "deviations"
    number = 1

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    @property
    def count(self) -> int:
        return self.source.count

    def blocks(self, every: int = 1, only: int | None = None) -> Any:
        for models, base in self.source.blocks(every):
            assert base is not None
            yield [_deviation([model.double() - base.double() for model in models])], None


def _select(models: list[Tensor], base: Tensor, least: float) -> tuple[list[Tensor], Tensor]:
    deltas = [model.double() - base.double() for model in models]
    return deltas, _deviation(deltas).float() >= least


def _deviation(deltas: list[Tensor]) -> Tensor:
    from mull.merging.operations import in_order

    mean = in_order(deltas) / len(deltas)
    return (in_order([(delta - mean).square() for delta in deltas]) / len(deltas)).sqrt()
