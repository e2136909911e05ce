"""Model Breadcrumbs: drops the largest and the smallest elements of the task vectors."""

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

    In each tensor the elements of δ_m = θ_m − b are ranked by magnitude: mask_m drops the largest share `gamma`, keeps
    the next share `density`, and drops the rest.
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
    """Share of the elements that are dropped as outliers: the largest ones."""
    weights: tuple[float, ...] | None = None
    """One for each model; 1 each unless given."""

    def __post_init__(self) -> None:
        check_share("density", self.density)
        check_weights(self.weights)
        if not 0 <= self.gamma < 1 or self.density + self.gamma > 1:
            raise MullError(f"gamma {self.gamma:g} and density {self.density:g} exceed 1 together", "lower one of them")

    def measure(self, source: Source, survey: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
        from mull.merging.arithmetic.order_statistics import DeltaSize, kth_largest, largest_kept

        if not source.numel:
            return (), ()
        dropped = math.floor(self.gamma * source.numel + 1e-9)
        last_kept = min(dropped + largest_kept(source.numel, self.density), source.numel)
        models = [DeltaSize(m) for m in range(source.model_count)]
        ranks = [last_kept, *([dropped + 1] if dropped else [])]
        found = kth_largest([source], [(model, rank) for rank in ranks for model in models])
        return tuple(found[: len(models)]), tuple(found[len(models) :]) or (math.inf,) * len(models)

    def operation(self, source: Source, coefficient: float, measured: Any) -> Operation:
        lows, highs = measured
        return Combination(self.weights or (1.0,) * source.model_count, lows=lows, highs=highs, scale=coefficient)
