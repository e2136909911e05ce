"""Operations: what a merge computes for each element of a tensor.

A method (methods/) makes an operation for each tensor, from its parameters and from what it measured on the tensor. The
operation can then be applied to any range of the tensor, in any order. It computes in float64 (bfloat16 interpolation
in float32) and rounds to the output's dtype only at the end. torch and the kernels convert float64 to bfloat16 or
float16 by way of float32, so that results are within 0.5001 units in the last place. Knows nothing of files or names.
torch is imported inside functions, because planning a merge does not need it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from mull.merging.arithmetic.random_numbers import numbers_like

if TYPE_CHECKING:
    from torch import Tensor


class Operation(Protocol):
    """A pure function on corresponding ranges of the models' tensors."""

    device_independent: ClassVar[bool]
    """Whether every device gives the same bits. Operations that sum over many elements do not."""

    @property
    def align(self) -> int:
        """A range must begin at a multiple of this; so must its length, unless the range ends the tensor."""
        ...

    @property
    def position_dependent(self) -> bool:
        """Whether an element's result depends on its position in the tensor (on `first`)."""
        ...

    def apply(self, models: list[Tensor], base: Tensor | None, out: Tensor, first: int) -> None:
        """Write the result of elements `[first, first + count)` to `out`, rounded to its dtype at the end.

        All tensors are `[count]`, contiguous, of any floating dtypes and on one device.
        """
        ...


@dataclass(frozen=True)
class Interpolation:
    """λ·models[1] + (1−λ)·models[0]: see `mull.merging.arithmetic.interpolation`."""

    lam: float
    align: int = 1
    position_dependent: bool = False
    device_independent: ClassVar[bool] = True

    def apply(self, models: list[Tensor], base: Tensor | None, out: Tensor, first: int) -> None:
        from mull.merging.arithmetic.interpolation import interpolate

        interpolate(models[0], models[1], self.lam, out, block=block_of(out))


@dataclass(frozen=True)
class Combination:
    """base + scale · Σ_m factor_m · δ_m with δ_m = model_m − base, some of whose elements are dropped first.

    Each step is computed in float64, by the kernels for bfloat16 and by torch otherwise, with the same result: 1. δ_m,
    where a missing base counts as 0; 2. elements with |δ_m| (rounded to float32) outside [low_m, high_m] become 0;
    3. elements whose random number is not below `keep` become 0; 4. the factors; 5. the sum. With `elect`, only the
    elements that have the sign of this sum are summed (0 counts as positive). With `mean`, the sum is divided by the
    sum of the weights of the elements in it. NaN and infinity in an input are never dropped: they give NaN.
    """

    factors: tuple[float, ...]
    weights: tuple[float, ...] = ()
    """The weights that `mean` divides by; the factors unless given."""
    lows: tuple[float, ...] = ()
    highs: tuple[float, ...] = ()
    scale: float = 1.0
    keep: int | tuple[int, ...] = 0
    """An element is kept if its random 32-bit number is below this; 0 keeps all elements. Or one for each model, which
    the kernels do not know."""
    key: int = 0
    """The 64-bit key of the random numbers (see `mull.merging.arithmetic.random_numbers`)."""
    elect: bool = False
    mean: bool = False
    align: int = 4
    device_independent: ClassVar[bool] = True

    @property
    def position_dependent(self) -> bool:
        return self.keep != 0

    def apply(self, models: list[Tensor], base: Tensor | None, out: Tensor, first: int) -> None:
        from mull.merging.arithmetic import compiled

        inputs = compiled.inputs(models, base)
        if inputs and compiled.supports(out) and isinstance(self.keep, int):
            compiled.kernels.combine(*inputs, compiled.memory(out), *self._arguments(first))
            return
        block = block_of(out)
        for start in range(0, out.numel(), block):
            part = slice(start, start + block)
            out[part].copy_(
                self.compute([m[part] for m in models], None if base is None else base[part], first + start)
            )

    def compute(self, models: list[Tensor], base: Tensor | None, first: int) -> Tensor:
        """The result in float64."""
        import torch

        origin = torch.zeros((), dtype=torch.float64) if base is None else base.double()
        deltas = []
        for m, model in enumerate(models):
            delta = model.double() - origin
            # Dropped elements become δ − δ: 0, or NaN where δ is not finite.
            low, high = self._bounds(m)
            if low > 0 or high < math.inf:
                size = delta.abs().float()
                delta = torch.where((size < low) | (size > high), delta - delta, delta)
            keep = self.keep if isinstance(self.keep, int) else self.keep[m]
            if keep:
                delta = torch.where(numbers_like(delta, self.key, m, first) < keep, delta, delta - delta)
            deltas.append(delta * self.factors[m])
        weights = self.weights or self.factors
        if self.elect:
            return origin + self.scale * merge_agreeing(deltas, weights, mean=self.mean)
        total = sum_in_order(deltas)
        if self.mean:
            total = true_divide(total, math.fsum(weights))
        return origin + self.scale * total

    def _bounds(self, m: int) -> tuple[float, float]:
        return (self.lows[m] if self.lows else 0.0), (self.highs[m] if self.highs else math.inf)

    def _arguments(self, first: int) -> tuple[object, ...]:
        weights = self.weights or self.factors
        lows, highs = zip(*map(self._bounds, range(len(self.factors))), strict=True)
        total = math.fsum(weights)
        return (
            self.factors,
            weights,
            lows,
            highs,
            self.scale,
            total,
            self.keep,
            self.key,
            first,
            self.elect,
            self.mean,
        )


def block_of(out: Tensor) -> int:
    """How many elements to compute at a time: what fits in the CPU's cache, or all of them on another device."""
    return 1 << 16 if out.device.type == "cpu" else max(out.numel(), 1)


def merge_agreeing(
    deltas: list[Tensor], weights: tuple[float, ...], *, mean: bool, voters: list[Tensor] | None = None
) -> Tensor:
    """The sum, or the mean by `weights`, of the elements that have the sign of the sum of `voters` (0 is positive).

    The voters are the deltas unless given. TIES' election and disjoint merge (Yadav et al. 2023, arXiv
    2306.01708, sections 4.2 and 4.3), in float64.
    """
    import torch

    vote = sum_in_order(voters or deltas)
    sign = torch.where(vote >= 0, 1.0, -1.0)
    agrees = [delta * sign > 0 for delta in deltas]
    kept = [torch.where(agree, delta, 0.0) for agree, delta in zip(agrees, deltas, strict=True)]
    total = sum_in_order([0.0 * vote, *kept])  # 0 · NaN is NaN: an element that is NaN stays NaN
    if not mean:
        return total
    weight = sum_in_order([agree.double() * weight for agree, weight in zip(agrees, weights, strict=True)])
    return torch.where(weight != 0, total / weight, total)


def true_divide(values: Tensor, divisor: float) -> Tensor:
    """values / divisor, correctly rounded. If `divisor` were a plain number, CUDA would multiply by its reciprocal."""
    import torch

    return values / torch.tensor(divisor, dtype=values.dtype, device=values.device)


def sum_in_order(terms: list[Tensor]) -> Tensor:
    """The sum in float64, added from first to last, so that it is rounded the same way everywhere."""
    total = terms[0].double()
    for term in terms[1:]:
        total = total + term
    return total
