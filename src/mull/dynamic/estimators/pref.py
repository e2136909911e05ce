"""Preference: a head on Instruct's hidden state that ranks the λ of a grid (DAMI-Pref, our reconstruction).

The paper says that λ is learned by "preference learning encoding accuracy and efficiency criteria". Its formulas could
not be read. Ours: λ_i is preferred to λ_j for a question if it is more accurate, or as accurate and shorter
(`mull.dynamic.training.preferences`); a score r(q, λ) is fitted to that by Bradley and Terry's model (1952).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mull.dynamic.base import Choice, Need, Signals, clipped
from mull.dynamic.estimators.linear import Features


@dataclass(frozen=True, kw_only=True, eq=False)
class Preference:
    """λ(q) = argmax over the grid of r(q, λ_k) = w_k·φ(q) + b_k."""

    features: Features
    lams: np.ndarray
    """The grid: float64 `[K]`, ascending."""
    weights: np.ndarray
    """float64 `[K, D]`."""
    biases: np.ndarray
    """float64 `[K]`."""
    digest: str = ""
    """Hash of the head file that it came from."""
    name: str = "pref"
    needs: frozenset[Need] = field(default=frozenset({Need.hidden_instruct}), init=False)

    def choose(self, signals: Signals) -> Choice:
        scores = self.scores(signals)
        best = int(scores.argmax())
        second = float(np.partition(scores, -2)[-2]) if len(scores) > 1 else scores[best]
        why = f"of {len(scores)} λ this one is preferred, by {scores[best] - second:.2f} in log odds to the next"
        return Choice(clipped(float(self.lams[best])), why, signals.cost(self.needs))

    def scores(self, signals: Signals) -> np.ndarray:
        """r(q, λ) for every λ of the grid, in log odds: float64 `[K]`."""
        return self.weights @ self.features.of(signals) + self.biases

    def record(self) -> dict[str, Any]:
        return {"estimator": "pref", "head": self.digest}
