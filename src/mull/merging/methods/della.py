"""DELLA: drops elements at random, small ones more often, then merges like TIES."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from mull.errors import MullError
from mull.merging.arithmetic.operations import Operation, block_of, merge_agreeing, true_divide
from mull.merging.arithmetic.random_numbers import key_of, numbers_like
from mull.merging.arithmetic.source import Source, row_length
from mull.merging.methods.base import Method, check_share, check_weights

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

    density: float = 0.5
    """Mean probability of keeping an element."""
    epsilon: float = 0.2
    """Difference between the largest and the smallest probability."""
    seed: int = 0
    normalize: bool = True
    weights: tuple[float, ...] | None = None
    """One for each model; 1 each unless given."""

    def __post_init__(self) -> None:
        check_share("density", self.density)
        check_weights(self.weights)
        half = self.epsilon / 2
        if not self.epsilon >= 0 or self.density - half <= 0 or self.density + half > 1:
            what = f"density {self.density:g} ± epsilon/2 = {half:g} leaves (0, 1]"
            raise MullError(what, "lower epsilon, or move density towards 0.5")

    def operation(self, source: Source, coefficient: float, measured: Any) -> Operation:
        return MagPrune(self, coefficient, key_of(self.seed, source.name), row_length(source.shape))


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
        if inputs and compiled.supports(out) and self.align < 1 << 32:
            shares = method.density - method.epsilon / 2, method.epsilon
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
        kept = []
        for m, model in enumerate(models):
            delta = model.double() - origin
            rows = delta.abs().float().view(-1, self.align)
            ranks = torch.empty_like(delta).view(-1, self.align)  # 0 = smallest
            positions = torch.arange(self.align, dtype=torch.float64, device=rows.device).expand_as(ranks)
            ranks.scatter_(1, rows.argsort(dim=1, stable=True), positions)
            spread = true_divide(method.epsilon * (ranks.view(-1) + 0.5), self.align)
            share = method.density - method.epsilon / 2 + spread
            numbers = numbers_like(delta, self.key, m, first).double() / 2**32
            kept.append(torch.where(numbers < share, delta / share, delta - delta) * weights[m])
        return origin + self.scale * merge_agreeing(kept, weights, mean=method.normalize)
