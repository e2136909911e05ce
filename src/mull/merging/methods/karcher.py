"""The Karcher mean: the centre of the models on the sphere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mull.errors import MullError
from mull.merging.arithmetic.operations import Combination, Operation
from mull.merging.arithmetic.source import Source
from mull.merging.methods.base import Method, check_weights


@dataclass(frozen=True, kw_only=True)
class Karcher(Method):
    """Per tensor, the unit vector u with the least Σ w_m·angle(u, θ_m)² (Karcher 1977,
    doi 10.1002/cpa.3160300502), times Σ w_m·‖θ_m‖: slerp for any number of models."""

    name = "karcher"
    about = "averages directions and lengths, each tensor a point on a sphere"
    paper = "Karcher 1977, doi 10.1002/cpa.3160300502"
    coefficient = None
    default = 1.0

    weights: tuple[float, ...] | None = None
    """One for each model, 0 or more; equal unless given."""
    steps: int = 100
    """The largest number of iterations."""
    tolerance: float = 1e-15
    """The iteration ends when a step is shorter than this, in radians."""

    def __post_init__(self) -> None:
        check_weights(self.weights)
        if self.weights and min(self.weights) < 0:
            raise MullError("a weight of a Karcher mean is negative", "give weights of 0 or more")
        if self.steps < 1 or not self.tolerance > 0:
            raise MullError("a Karcher mean needs at least one step and a tolerance above 0")

    def measure(self, source: Source, survey: Any) -> tuple[float, ...]:
        import numpy as np

        from mull.merging.arithmetic.angles import products, spherical_mean

        weights = np.array(self.weights or (1.0,) * source.model_count)
        inner = products(source)
        return spherical_mean(inner, weights / weights.sum(), steps=self.steps, tolerance=self.tolerance)

    def operation(self, source: Source, coefficient: float, measured: Any) -> Operation:
        return Combination(measured)
