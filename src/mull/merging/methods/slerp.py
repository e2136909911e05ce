"""Spherical interpolation: along the arc between two tensors or rows instead of the chord (the straight line)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mull.errors import MullError
from mull.merging.arithmetic.operations import Combination, Interpolation, Operation
from mull.merging.arithmetic.source import Source, row_length
from mull.merging.methods.base import Method, check_choice

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Slerp(Method):
    """(sin((1−λ)φ)·θ₁ + sin(λφ)·θ₂) / sin φ, where φ is the angle between the flattened tensors (Shoemake 1985).

    If |cos φ| exceeds `linear_above`, or a tensor is 0, interpolation is linear.
    """

    name = "slerp"
    about = "interpolates along the arc between two tensors"
    paper = "Shoemake 1985, Animating rotation with quaternion curves"
    coefficient = "lambda"
    max_models = 2

    linear_above: float = 0.9995
    """The default of other merging tools. |cos φ| of two fine-tunes of one model is often larger; 1: always the arc."""

    def __post_init__(self) -> None:
        check_linear_above(self.linear_above)

    def measure(self, source: Source, survey: Any) -> NDArray[np.float64]:
        from mull.merging.arithmetic.angles import products

        return products(source)

    def operation(self, source: Source, coefficient: float, measured: Any) -> Operation:
        from mull.merging.arithmetic.angles import arc

        factors = arc(measured, coefficient, self.linear_above)
        return Interpolation(coefficient) if factors is None else Combination(factors)


@dataclass(frozen=True, kw_only=True)
class NuSlerp(Method):
    """Slerp per row instead of per tensor, of task vectors where a base is given: b + slerp(θ₁ − b, θ₂ − b).

    As in mergekit (Goddard et al. 2024, arXiv 2403.13257); no paper describes it. λ is the relative weight of the
    second model. As there, interpolation is linear only between parallel vectors, and where one of them is 0.
    """

    name = "nuslerp"
    about = "as slerp, by tensor or row, of task vectors where a base is given"
    paper = "Goddard et al. 2024, arXiv 2403.13257"
    coefficient = "lambda"
    base = "optional"
    max_models = 2

    per: Literal["row", "tensor"] = "row"
    """A row lies along the last dimension; a vector is one row."""
    linear_above: float = 1.0
    """If |cos φ| exceeds this, interpolation is linear."""

    def __post_init__(self) -> None:
        check_linear_above(self.linear_above)
        check_choice("per", self.per, ("row", "tensor"))

    @property
    def measures(self) -> bool:
        return self.per == "tensor"

    def measure(self, source: Source, survey: Any) -> NDArray[np.float64] | None:
        from mull.merging.arithmetic.angles import products

        return products(source) if self.measures else None

    def operation(self, source: Source, coefficient: float, measured: Any) -> Operation:
        from mull.merging.arithmetic.angles import arc

        if measured is None:
            return RowArcs(coefficient, self.linear_above, row_length(source.shape))
        factors = arc(measured, coefficient, self.linear_above)
        return Combination(factors or (1 - coefficient, coefficient))


@dataclass(frozen=True)
class RowArcs:
    """Slerp of each row of `align` elements."""

    lam: float
    linear_above: float
    align: int
    position_dependent: bool = False
    device_independent: ClassVar[bool] = False

    def apply(self, models: list[Tensor], base: Tensor | None, out: Tensor, first: int) -> None:
        import torch

        from mull.merging.arithmetic import compiled
        from mull.merging.arithmetic.angles import arc_of_rows, products_of_rows

        factors = arc_of_rows(products_of_rows(models, base, self.align), self.lam, self.linear_above)
        inputs = compiled.inputs(models, base)
        if inputs and compiled.supports(out):
            compiled.kernels.mix_rows(*inputs, self.align, factors, compiled.memory(out))
            return
        left, right = torch.from_numpy(factors).to(out.device)[:, :, None].unbind(1)
        origin = 0.0 if base is None else base.double().view(-1, self.align)
        rows = [model.double().view(-1, self.align) - origin for model in models]
        result = rows[0] * left + rows[1] * right
        out.copy_((result if base is None else torch.add(result, origin)).view(-1))


def check_linear_above(value: float) -> None:
    if not -1 <= value <= 1:
        raise MullError(f"linear_above is a cosine, got {value:g}", "give a number from -1 to 1")
