"""TIES: trims the task vectors, elects a sign for each element, merges the values with that sign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from mull.merging.arithmetic.operations import Combination, Operation
from mull.merging.arithmetic.source import Mapper, Source
from mull.merging.methods.base import Method, check_choice, check_share, check_weights


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

    density: float = 0.2
    """Share of the elements that are kept; the paper's default."""
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
        count = sum(source.numel for source in sources)
        if self.trim == "tensor" or self.density == 1 or not count:
            return None
        from mull.merging.arithmetic.order_statistics import DeltaSize, kth_largest, largest_kept

        kept = largest_kept(count, self.density)
        return tuple(kth_largest(sources, [(DeltaSize(m), kept) for m in range(sources[0].model_count)], mapper))

    def measure(self, source: Source, survey: Any) -> tuple[float, ...]:
        from mull.merging.arithmetic.order_statistics import DeltaSize, kth_largest, largest_kept

        if self.trim == "model" or self.density == 1 or not source.numel:
            return survey or ()
        kept = largest_kept(source.numel, self.density)
        return tuple(kth_largest([source], [(DeltaSize(m), kept) for m in range(source.model_count)]))

    def operation(self, source: Source, coefficient: float, measured: Any) -> Operation:
        weights = self.weights or (1.0,) * source.model_count
        return Combination(weights, lows=measured, scale=coefficient, elect=True, mean=self.normalize)
