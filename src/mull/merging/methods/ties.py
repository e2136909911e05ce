"""TIES: trims the task vectors, elects a sign for each element, merges the values with that sign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from mull.merging.arithmetic.operations import Combination, Operation
from mull.merging.arithmetic.source import Mapper, Source, map_serially
from mull.merging.methods.base import Method, Share, check_choice, check_share, check_weights, each


@dataclass(frozen=True, kw_only=True)
class Ties(Method):
    """b + α·τ (Yadav et al. 2023, arXiv 2306.01708, sections 4.1–4.3).

    Trim: the share `density` of the elements of δ_m = θ_m − b is kept, the largest by magnitude (and all that equal the
    least of them). Elect: an element's sign is that of Σ w_m·δ_m, + if the sum is 0. Merge: τ is the mean, weighted by
    w, of the kept elements with that sign.
    """

    name = "ties"
    about = "trims task vectors, elects a sign for each element, averages what agrees"
    paper = "Yadav et al. 2023, arXiv 2306.01708"
    coefficient = "alpha"
    default = 1.0
    base = "required"

    density: Share = 0.2
    """Share of the elements that are kept, one for all models or one for each; the paper's default."""
    trim: Literal["tensor", "model"] = "tensor"
    """`density` is a share of each tensor, as in merging tools, or of the whole task vector, as in the paper's code."""
    normalize: bool = True
    """Whether τ is the mean or the sum of the elements with the elected sign."""
    weights: tuple[float, ...] | None = None
    """One for each model; 1 each unless given."""

    def __post_init__(self) -> None:
        check_share("density", self.density)
        check_choice("trim", self.trim, ("tensor", "model"))
        check_weights(self.weights)

    def survey(self, sources: list[Source], mapper: Mapper) -> tuple[float, ...] | None:
        if self.trim == "tensor" or not sources:
            return None
        return self._least_kept(sources, mapper)

    def measure(self, source: Source, survey: Any) -> tuple[float, ...]:
        return (survey or ()) if self.trim == "model" else self._least_kept([source], map_serially)

    def _least_kept(self, sources: list[Source], mapper: Mapper) -> tuple[float, ...]:
        """The least size that is kept, of each model; empty if all sizes are."""
        count, models = sum(source.numel for source in sources), sources[0].model_count
        densities = each(self.density, models)
        if not count or set(densities) == {1}:
            return ()
        from mull.merging.arithmetic.order_statistics import DeltaSize, kth_largest, largest_kept

        trimmed = [m for m in range(models) if densities[m] < 1]
        found = kth_largest(sources, [(DeltaSize(m), largest_kept(count, densities[m])) for m in trimmed], mapper)
        least = dict(zip(trimmed, found, strict=True))
        return tuple(least.get(m, 0.0) for m in range(models))

    def operation(self, source: Source, coefficient: float, measured: Any) -> Operation:
        weights = self.weights or (1.0,) * source.model_count
        return Combination(weights, lows=measured, scale=coefficient, elect=True, mean=self.normalize)
