"""Task arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mull.merging.arithmetic.operations import Combination, Operation
from mull.merging.arithmetic.source import Source
from mull.merging.methods.base import Method, check_weights


@dataclass(frozen=True, kw_only=True)
class TaskArithmetic(Method):
    """b + α·Σ w_m·δ_m with δ_m = θ_m − b (Ilharco et al. 2022, arXiv 2212.04089)."""

    name = "ta"
    about = "adds the task vectors to the base, scaled by α"
    paper = "Ilharco et al. 2022, arXiv 2212.04089"
    coefficient = "alpha"
    default = 0.7
    base = "required"

    weights: tuple[float, ...] | None = None
    """One for each model; 1 each unless given."""

    def __post_init__(self) -> None:
        check_weights(self.weights)

    def operation(self, source: Source, coefficient: float, measured: Any) -> Operation:
        return Combination(self.weights or (1.0,) * source.model_count, scale=coefficient)
