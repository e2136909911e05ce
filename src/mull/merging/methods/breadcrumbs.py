"""Model Breadcrumbs: neither the outliers nor the small change."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from mull.errors import MullError
from mull.merging.arithmetic.operations import Combination, Operation
from mull.merging.arithmetic.source import Source
from mull.merging.methods.base import Method, check_share, check_weights


@dataclass(frozen=True, kw_only=True)
class Breadcrumbs(Method):
    """b + α·Σ w_m·(mask_m ⊙ δ_m) (Davari & Belilovsky 2023, arXiv 2312.06795, eqs. 1–3).

    Tensor by tensor, mask_m drops the largest `gamma` of the elements of δ_m = θ_m − b by magnitude and, of the rest,
    all but the next `density`.
    """

    name = "breadcrumbs"
    about = "adds task vectors without their largest and smallest entries"
    paper = "Davari & Belilovsky 2023, arXiv 2312.06795"
    coefficient = "alpha"
    default = 1.0
    base = "required"

    density: float = 0.14
    """Share of the elements that are kept."""
    gamma: float = 0.01
    """Share of the elements, the largest, that are dropped as outliers."""
    weights: tuple[float, ...] | None = None
    """One for each model; 1 each unless given."""

    def __post_init__(self) -> None:
        check_share("density", self.density)
        check_weights(self.weights)
        if not 0 <= self.gamma < 1 or self.density + self.gamma > 1:
            raise MullError(f"gamma {self.gamma:g} and density {self.density:g} exceed 1 together", "lower one of them")

    def measure(self, source: Source, survey: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
        from mull.merging.arithmetic.order_statistics import Change, kth_largest, largest_kept

        if not source.count:
            return (), ()
        dropped = math.floor(self.gamma * source.count + 1e-9)
        last = min(dropped + largest_kept(source.count, self.density), source.count)
        models = [Change(m) for m in range(source.number)]
        places = [last, *([dropped + 1] if dropped else [])]
        found = kth_largest([source], [(model, place) for place in places for model in models])
        return tuple(found[: len(models)]), tuple(found[len(models) :]) or (math.inf,) * len(models)

    def operation(self, source: Source, coefficient: float, measured: Any) -> Operation:
        lows, highs = measured
        return Combination(self.weights or (1.0,) * source.number, lows=lows, highs=highs, scale=coefficient)
