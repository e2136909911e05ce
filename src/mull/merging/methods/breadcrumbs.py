"""Model Breadcrumbs: drops the largest and the smallest elements of the task vectors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from mull.errors import MullError
from mull.merging.arithmetic.operations import Combination, Operation
from mull.merging.arithmetic.source import Source
from mull.merging.methods.base import Method, Share, all_values, check_share, check_weights, each


@dataclass(frozen=True, kw_only=True)
class Breadcrumbs(Method):
    """b + α·Σ w_m·(mask_m ⊙ δ_m) (Davari & Belilovsky 2023, arXiv 2312.06795, eqs. 1–3).

    In each tensor the elements of δ_m = θ_m − b are ranked by magnitude: mask_m drops the largest share `gamma`, keeps
    the next share `density`, and drops the rest.
    """

    name = "breadcrumbs"
    about = "adds task vectors without their largest and smallest entries"
    paper = "Davari & Belilovsky 2023, arXiv 2312.06795"
    coefficient = "alpha"
    default = 1.0
    base = "required"

    density: Share = 0.14
    """Share of the elements that are kept, one for all models or one for each."""
    gamma: Share = 0.01
    """Share of the elements that are dropped as outliers: the largest ones. One for all models or one for each."""
    weights: tuple[float, ...] | None = None
    """One for each model; 1 each unless given."""

    def __post_init__(self) -> None:
        check_share("density", self.density)
        check_weights(self.weights)
        for density, gamma in all_values(self.density, self.gamma):
            if not 0 <= gamma < 1 or density + gamma > 1:
                raise MullError(f"gamma {gamma:g} and density {density:g} exceed 1 together", "lower one of them")

    def measure(self, source: Source, survey: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
        from mull.merging.arithmetic.order_statistics import DeltaSize, kth_largest, largest_kept

        if not source.numel:
            return (), ()
        models, count = range(source.model_count), source.numel
        dropped = [math.floor(gamma * count + 1e-9) for gamma in each(self.gamma, len(models))]
        kept = [largest_kept(count, density) for density in each(self.density, len(models))]
        last = [(DeltaSize(m), min(dropped[m] + kept[m], count)) for m in models]
        first = {m: (DeltaSize(m), dropped[m] + 1) for m in models if dropped[m]}
        found = kth_largest([source], [*last, *first.values()])
        highs = dict(zip(first, found[len(models) :], strict=True))
        return tuple(found[: len(models)]), tuple(highs.get(m, math.inf) for m in models)

    def operation(self, source: Source, coefficient: float, measured: Any) -> Operation:
        lows, highs = measured
        return Combination(self.weights or (1.0,) * source.model_count, lows=lows, highs=highs, scale=coefficient)
