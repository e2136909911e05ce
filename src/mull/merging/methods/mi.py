"""Model interpolation: linear, between two models by λ or among several by weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from mull.errors import MullError
from mull.merging.arithmetic.operations import Combination, Interpolation, Operation
from mull.merging.arithmetic.source import Source
from mull.merging.methods.base import Method, check_weights


@dataclass(frozen=True, kw_only=True)
class Mi(Method):
    """Θ(λ) = λ·θ₂ + (1−λ)·θ₁ (Wu et al. 2025, arXiv 2510.10977, eq. 6); for N models Σ w_m·θ_m with Σ w_m = 1.

    Task arithmetic with these weights and α = 1 gives the same model with any base, because the base cancels out.
    """

    name = "mi"
    about = "interpolates linearly: λ·Thinking + (1−λ)·Instruct"
    paper = "Wu et al. 2025, arXiv 2510.10977"
    coefficient = "lambda"

    weights: tuple[float, ...] | None = None
    """One for each model, summing to 1, instead of λ."""

    def __post_init__(self) -> None:
        check_weights(self.weights)
        if self.weights is not None and not math.isclose(math.fsum(self.weights), 1, abs_tol=1e-6):
            raise MullError(f"the weights sum to {math.fsum(self.weights):g}", "give weights that sum to 1")

    def check_models(self, count: int, *, has_base: bool) -> None:
        super().check_models(count, has_base=has_base)
        if self.weights is None and count != 2:
            raise MullError(f"one λ lies between 2 models, not {count}", "give each model a weight")

    @property
    def takes(self) -> Literal["lambda"] | None:
        return "lambda" if self.weights is None else None

    def copied_model(self, coefficient: float) -> int | None:
        if self.weights is None:
            return super().copied_model(coefficient)
        return self.weights.index(1) if sorted(self.weights) == [*[0] * (len(self.weights) - 1), 1] else None

    def operation(self, source: Source, coefficient: float, measured: Any) -> Operation:
        if self.weights is None:
            return Interpolation(coefficient)
        return Combination(self.weights)
