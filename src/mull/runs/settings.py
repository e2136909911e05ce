"""`Setting`: one row of a run: weights, and how they are sampled where that is not the plan's own way."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mull.engines.base import Sampling
from mull.merging.coefficients import Coefficients
from mull.merging.coefficients.recipe import Recipe


@dataclass(frozen=True)
class Setting:
    """Weights under a label that tells them apart within a run."""

    label: str
    recipe: Recipe
    sampling: Sampling | None = None
    """Instead of the plan's."""

    @classmethod
    def of(cls, weights: Coefficients | Recipe | Setting, label: str | None = None) -> Setting:
        """Interpolation with some coefficients goes by their label."""
        if isinstance(weights, Setting):
            return weights
        recipe = Recipe(weights) if isinstance(weights, Coefficients) else weights
        return cls(label or recipe.coefficients.label, recipe)

    @property
    def lam(self) -> float | None:
        """λ, where it alone says what the weights are and nothing else sets this row apart."""
        coefficients = self.recipe.coefficients
        plain = self.recipe.is_interpolation and coefficients.is_scalar and self.sampling is None
        return coefficients.default if plain and self.label == coefficients.label else None

    def to_json(self) -> dict[str, Any]:
        weights = self.recipe.to_json()
        return {**weights, "sampling": asdict(self.sampling)} if self.sampling else weights
