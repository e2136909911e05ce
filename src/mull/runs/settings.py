"""`Setting`: the weights of one row of a run, and their sampling where it differs from the plan's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from mull.engines.base import Sampling
from mull.merging.coefficients import Coefficients
from mull.merging.coefficients.recipe import Recipe


@dataclass(frozen=True)
class Setting:
    """Weights with a label that is unique within a run."""

    label: str
    recipe: Recipe
    sampling: Sampling | None = None
    """Replaces the plan's sampling; None: sample as the plan says."""
    policy: Mapping[str, Any] | None = field(default=None, hash=False)
    """What else decides the responses, as JSON, where these weights alone do not (`mull.dynamic.evaluation`)."""

    @classmethod
    def of(cls, weights: Coefficients | Recipe | Setting, label: str | None = None) -> Setting:
        """A setting of these weights; without `label`, the coefficients' own label is used."""
        if isinstance(weights, Setting):
            return weights
        recipe = Recipe(weights) if isinstance(weights, Coefficients) else weights
        return cls(label or recipe.coefficients.label, recipe)

    @classmethod
    def budgeted(cls, tokens: int, sampling: Sampling, message: str | None = None) -> Setting:
        """The Thinking end whose thoughts are closed after so many tokens, with a `message` if one is given: what users
        have without λ."""
        own = replace(sampling, thinking_budget=tokens, budget_message=message)
        return cls(f"Thinking, budget {tokens}", Recipe(Coefficients.scalar(1.0)), own)

    @property
    def lam(self) -> float | None:
        """λ, if this is plain interpolation with one λ, the plan's sampling and the λ as label; else None."""
        coefficients = self.recipe.coefficients
        plain = self.recipe.is_interpolation and coefficients.is_scalar and self.sampling is None and not self.policy
        return coefficients.default if plain and self.label == coefficients.label else None

    def to_json(self) -> dict[str, Any]:
        weights = self.recipe.to_json()
        own = {"sampling": self.sampling.record()} if self.sampling else {}
        return {**weights, **own, **({"policy": dict(self.policy)} if self.policy else {})}


class Route(NamedTuple):
    """The λ that an estimator chose for a question, and what it cost, as a run records it."""

    lam: float
    why: str
    generated: int = 0
    """Tokens that were generated to choose."""
    prefilled: int = 0
    """Prompt tokens that were read to choose."""
