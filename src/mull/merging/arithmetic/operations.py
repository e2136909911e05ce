"""Operations: what a merge computes for each element of a tensor.

A method (methods/) makes an operation for each tensor, from its parameters and from what it measured on the tensor. The
operation can then be applied to any range of the tensor, in any order. It computes in float64 (bfloat16 interpolation
in float32) and rounds to the output's dtype at the end only. The way from float64 to bfloat16 or float16 leads through
float32, here and in the kernels: results are within 0.5001 units in the last place. Knows nothing of files or names.
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

    anywhere: ClassVar[bool]
    """Whether every device gives the same bits. Operations that sum over many elements do not."""

    @property
    def align(self) -> int:
        """A range must begin at a multiple of this, and its length must be one too unless it ends the tensor."""
        ...

    @property
    def placed(self) -> bool:
        """Whether an element's result depends on its position in the tensor (on `first`)."""
        ...

    def into(self, models: list[Tensor], base: Tensor | None, out: Tensor, first: int) -> None:
        """Write the result of elements `[first, first + count)` to `out`, rounded to its dtype at the end.

        All tensors are `[count]`, contiguous, of any floating dtypes and on one device.
        """
        ...


@dataclass(frozen=True)
class Interpolation:
    """λ·models[1] + (1−λ)·models[0]: see `mull.merging.arithmetic.interpolation`."""

    lam: float
    align: int = 1
    placed: bool = False
    anywhere: ClassVar[bool] = True

    def into(self, models: list[Tensor], base: Tensor | None, out: Tensor, first: int) -> None:
        from mull.merging.arithmetic.interpolation import interpolate

        interpolate(models[0], models[1], self.lam, out, block=block_of(out))


@dataclass(frozen=True)
class Combination:
    """base + scale · Σ_m factor_m · δ_m with δ_m = model_m − base, some of whose elements are dropped first.

    In this order, each step in float64 (compiled for bfloat16, in torch otherwise, to the same bits): δ_m; elements
    whose size lies outside [low_m, high_m] become 0, the size compared in float32; of the rest those become 0 whose
    random number is not below `keep`; the factors; the sum. With `elect` only the elements that have the sum's sign are
    summed (a sum of 0 counts as positive). With `mean` the sum is divided by the weights of what was summed. Without a
    base it is 0.
    """

    factors: tuple[float, ...]
    weights: tuple[float, ...] = ()
    """What `mean` divides by; the factors unless given."""
    lows: tuple[float, ...] = ()
    highs: tuple[float, ...] = ()
    scale: float = 1.0
    keep: int = 0
    """An element is kept if its random 32-bit number is below this; 0 keeps all elements."""
    key: int = 0
    """64 bits that choose the random numbers."""
    elect: bool = False
    mean: bool = False
    align: int = 4
    anywhere: ClassVar[bool] = True

    @property
    def placed(self) -> bool:
        return self.keep > 0

    def into(self, models: list[Tensor], base: Tensor | None, out: Tensor, first: int) -> None:
        from mull.merging.arithmetic import compiled

        inputs = compiled.inputs(models, base)
        if inputs and compiled.applies(out):
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
            low, high = self._bounds(m)
            if low > 0 or high < math.inf:
                size = delta.abs().float()
                delta = torch.where((size < low) | (size > high), 0.0, delta)  # NaN stays
            if self.keep:
                delta = torch.where(numbers_like(delta, self.key, m, first) < self.keep, delta, 0.0)
            deltas.append(delta * self.factors[m])
        weights = self.weights or self.factors
        if self.elect:
            return origin + self.scale * merge_agreeing(deltas, weights, mean=self.mean)
        total = in_order(deltas)
        if self.mean:
            total = divided(total, math.fsum(weights))
        return origin + self.scale * total

    def _bounds(self, m: int) -> tuple[float, float]:
        return (self.lows[m] if self.lows else 0.0), (self.highs[m] if self.highs else math.inf)

    def _arguments(self, first: int) -> tuple[object, ...]:
        weights = self.weights or self.factors
        many = range(len(self.factors))
        lows, highs = tuple(self._bounds(m)[0] for m in many), tuple(self._bounds(m)[1] for m in many)
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
    """The sum, or the mean by `weights`, of the elements that have the sign of all `voters`' sum (0 is positive).

    The deltas elect for themselves unless others are given. TIES' election and disjoint merge (Yadav et al. 2023, arXiv
    2306.01708, sections 4.2 and 4.3), in float64.
    """
    import torch

    mass = in_order(voters or deltas)
    sign = torch.where(mass >= 0, 1.0, -1.0)
    agrees = [delta * sign > 0 for delta in deltas]
    total = in_order([0.0 * mass, *(torch.where(a, d, 0.0) for a, d in zip(agrees, deltas, strict=True))])  # NaN stays
    if not mean:
        return total
    weight = in_order([a.double() * w for a, w in zip(agrees, weights, strict=True)])
    return torch.where(weight != 0, total / weight, total)


def divided(values: Tensor, by: float) -> Tensor:
    """values / by as a true division. CUDA would multiply by the reciprocal if `by` were a plain number."""
    import torch

    return values / torch.tensor(by, dtype=values.dtype, device=values.device)


def in_order(terms: list[Tensor]) -> Tensor:
    """The sum, first to last, in float64."""
    total = terms[0].double()
    for term in terms[1:]:
        total = total + term
    return total
