"""DARE: drops elements of the task vectors at random and rescales the rest, then adds them or merges like TIES."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from mull.errors import MullError
from mull.merging.arithmetic.operations import Combination, Operation
from mull.merging.arithmetic.random_numbers import key_of, threshold
from mull.merging.arithmetic.source import Source
from mull.merging.methods.base import Method, Share, check_share, check_weights, each


@dataclass(frozen=True, kw_only=True)
class Dare(Method):
    """b + α·Σ w_m·(mask_m ⊙ δ_m)/density (Yu et al. 2023, arXiv 2311.03099, eqs. 1–4).

    mask_m keeps each element of δ_m = θ_m − b with probability `density`, independently. Whether an element is kept
    depends only on the seed, the tensor's name, the model's index and the element's index.
    """

    name = "dare"
    about = "drops random entries of the task vectors and scales up the rest"
    paper = "Yu et al. 2023, arXiv 2311.03099"
    coefficient = "alpha"
    default = 1.0
    base = "required"
    elect: ClassVar[bool] = False

    density: Share = 0.1
    """Probability of keeping an element, one for all models or one for each: 1 − the paper's drop rate p, which is 0.9
    in most of its tables."""
    seed: int = 0
    normalize: bool = False
    """Whether to divide by the sum of the weights of the summed elements."""
    weights: tuple[float, ...] | None = None
    """One for each model; 1 each unless given."""

    def __post_init__(self) -> None:
        check_share("density", self.density)
        check_weights(self.weights)
        if self.normalize and not self.elect and self.weights is not None and math.fsum(self.weights) == 0:
            raise MullError(f"the weights {self.weights} sum to 0", "leave normalize out, or give other weights")

    def operation(self, source: Source, coefficient: float, measured: Any) -> Operation:
        weights = self.weights or (1.0,) * source.model_count
        densities = each(self.density, source.model_count)
        keep = tuple(map(threshold, densities))
        return Combination(
            tuple(weight / density for weight, density in zip(weights, densities, strict=True)),
            weights,
            scale=coefficient,
            keep=keep[0] if len(set(keep)) == 1 else keep,
            key=key_of(self.seed, source.name),
            elect=self.elect,
            mean=self.normalize,
        )


@dataclass(frozen=True, kw_only=True)
class DareTies(Dare):
    """The masks and rescaling of `Dare`, then sign election and merging as in `Ties`, without trimming."""

    name = "dare_ties"
    about = "as dare, then elects a sign for each element as ties does"
    elect: ClassVar[bool] = True
