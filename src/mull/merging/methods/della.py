"""DELLA: drops elements at random, small ones more often, then merges like TIES."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from mull.errors import MullError
from mull.merging.arithmetic.operations import Operation, block_of, merge_agreeing, sum_in_order, true_divide
from mull.merging.arithmetic.random_numbers import key_of, numbers_like
from mull.merging.arithmetic.source import Source, row_length
from mull.merging.methods.base import Method, Share, all_values, check_share, check_weights, each

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Della(Method):
    """b + α·τ with MagPrune (Deep et al. 2024, arXiv 2406.11617, sections 3.1–3.3).

    In each row of δ_m = θ_m − b the elements are ranked by magnitude, compared in float32. The drop probability falls
    linearly from 1 − density + epsilon/2 for the smallest to 1 − density − epsilon/2 for the largest (for n elements in
    n steps of epsilon/n). A kept element is divided by its probability of being kept. τ is the mean (the sum without
    `normalize`), weighted by w, of the kept elements that have the sign of Σ w_m·δ_m.
    """

    name = "della"
    about = "drops entries at random, small ones more often; elects signs"
    paper = "Deep et al. 2024, arXiv 2406.11617"
    coefficient = "alpha"
    default = 1.0
    base = "required"
    elect: ClassVar[bool] = True

    density: Share = 0.5
    """Mean probability of keeping an element, one for all models or one for each."""
    epsilon: Share = 0.2
    """Difference between the largest and the smallest probability, one for all models or one for each."""
    seed: int = 0
    normalize: bool = True
    weights: tuple[float, ...] | None = None
    """One for each model; 1 each unless given."""

    def __post_init__(self) -> None:
        check_share("density", self.density)
        check_weights(self.weights)
        for density, epsilon in all_values(self.density, self.epsilon):
            half = epsilon / 2
            if not epsilon >= 0 or density - half <= 0 or density + half > 1:
                what = f"density {density:g} ± epsilon/2 = {half:g} leaves (0, 1]"
                raise MullError(what, "lower epsilon, or move density towards 0.5")
        if self.normalize and not self.elect and self.weights is not None and math.fsum(self.weights) == 0:
            raise MullError(f"the weights {self.weights} sum to 0", "leave normalize out, or give other weights")

    def operation(self, source: Source, coefficient: float, measured: Any) -> Operation:
        return MagPrune(self, coefficient, key_of(self.seed, source.name), row_length(source.shape))


@dataclass(frozen=True, kw_only=True)
class DellaLinear(Della):
    """The masks and rescaling of `Della`, then the weighted sum of all kept elements, without sign election.

    With `normalize` the sum is divided by the sum of the weights.
    """

    name = "della_linear"
    about = "as della, without electing signs"
    elect: ClassVar[bool] = False

    normalize: bool = False


@dataclass(frozen=True)
class MagPrune:
    """`Della` on one tensor; `align` is the length of its rows."""

    method: Della
    scale: float
    key: int
    align: int
    position_dependent: bool = True
    device_independent: ClassVar[bool] = True

    def apply(self, models: list[Tensor], base: Tensor | None, out: Tensor, first: int) -> None:
        from mull.merging.arithmetic import compiled

        method = self.method
        weights = method.weights or (1.0,) * len(models)
        inputs = compiled.inputs(models, base)
        pairs = set(all_values(method.density, method.epsilon))  # the kernel knows one, and always elects signs
        if inputs and compiled.supports(out) and self.align < 1 << 32 and method.elect and len(pairs) == 1:
            ((density, epsilon),) = pairs
            shares = density - epsilon / 2, epsilon
            arguments = self.align, self.key, first, *shares, weights, self.scale, method.normalize
            compiled.kernels.prune(*inputs, compiled.memory(out), *arguments)
            return
        assert base is not None
        block = max(block_of(out) // self.align, 1) * self.align
        for start in range(0, out.numel(), block):
            part = slice(start, start + block)
            out[part].copy_(self._merged([model[part] for model in models], base[part], first + start, weights))

    def _merged(self, models: list[Tensor], base: Tensor, first: int, weights: tuple[float, ...]) -> Tensor:
        import torch

        method, origin = self.method, base.double()
        densities, epsilons = each(method.density, len(models)), each(method.epsilon, len(models))
        kept = []
        for m, model in enumerate(models):
            delta = model.double() - origin
            rows = delta.abs().float().view(-1, self.align)
            ranks = torch.empty_like(delta).view(-1, self.align)  # 0 = smallest
            positions = torch.arange(self.align, dtype=torch.float64, device=rows.device).expand_as(ranks)
            ranks.scatter_(1, rows.argsort(dim=1, stable=True), positions)
            spread = true_divide(epsilons[m] * (ranks.view(-1) + 0.5), self.align)
            share = densities[m] - epsilons[m] / 2 + spread
            numbers = numbers_like(delta, self.key, m, first).double() / 2**32
            kept.append(torch.where(numbers < share, delta / share, delta - delta) * weights[m])
        if method.elect:
            return origin + self.scale * merge_agreeing(kept, weights, mean=method.normalize)
        total = sum_in_order(kept)
        return origin + self.scale * (true_divide(total, math.fsum(weights)) if method.normalize else total)
