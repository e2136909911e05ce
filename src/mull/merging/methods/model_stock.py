"""Model Stock: goes from the base towards the average of the models, the further the smaller the angle between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mull.merging.arithmetic.operations import Combination, Operation
from mull.merging.arithmetic.source import Source
from mull.merging.methods.base import Method


@dataclass(frozen=True, kw_only=True)
class ModelStock(Method):
    """b + t·mean(δ), t = N·cos φ / (1 + (N−1)·cos φ) per tensor (Jang et al. 2024, arXiv 2403.19522, eq. 5).

    φ is the angle between the δ_m = θ_m − b; for more than two models cos φ is the mean over all pairs. t is limited to
    [0, 1].
    """

    name = "model_stock"
    about = "goes from the base towards the mean as far as the models agree"
    paper = "Jang et al. 2024, arXiv 2403.19522"
    coefficient = None
    default = 1.0
    base = "required"

    def measure(self, source: Source, survey: Any) -> float:
        from mull.merging.arithmetic.angles import mean_cosine, products

        count = source.model_count
        cosine = mean_cosine(products(source))
        ratio = count * cosine / (1 + (count - 1) * cosine) if cosine > 0 else 0.0
        return min(ratio, 1.0)

    def operation(self, source: Source, coefficient: float, measured: Any) -> Operation:
        return Combination((1.0 / source.model_count,) * source.model_count, scale=measured)
