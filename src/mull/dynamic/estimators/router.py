"""A two-way router between the ends: Instruct where it probably suffices, else Thinking.

What a team builds without interpolation (after RouteLLM, Ong et al. 2024, arXiv 2406.18665, with our own features): a
logistic regression on Instruct's hidden state predicts how likely Thinking's answer is better.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mull.dynamic.base import Choice, Need, Signals
from mull.dynamic.estimators.linear import Features, logistic


@dataclass(frozen=True, kw_only=True, eq=False)
class Router:
    """λ = 1 if the predicted probability that Thinking is needed exceeds `threshold`, else 0."""

    features: Features
    weights: np.ndarray
    """float64 `[D]`."""
    bias: float
    threshold: float = 0.5
    digest: str = ""
    """Hash of the head file that it came from."""
    name: str = "router"
    needs: frozenset[Need] = field(default=frozenset({Need.hidden_instruct}), init=False)

    def choose(self, signals: Signals) -> Choice:
        probability = self.probability(signals)
        why = f"Thinking is needed with probability {probability:.2f}, and the threshold is {self.threshold:.2f}"
        return Choice(1.0 if probability > self.threshold else 0.0, why, signals.cost(self.needs))

    def probability(self, signals: Signals) -> float:
        """Predicted probability that Thinking answers better than Instruct."""
        return float(logistic(self.features.of(signals) @ self.weights + self.bias))

    def record(self) -> dict[str, Any]:
        return {"estimator": "router", "head": self.digest, "threshold": self.threshold}
