"""Length: the longer Thinking is going to think, the larger λ.

The number of thinking tokens is predictable from the hidden state where the thought begins (Sheng et al. 2025, arXiv
2506.08390, with a linear probe). That λ should grow with it is our assumption: where long thoughts are no sign of
difficulty, this estimator is no better than a lot.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mull.dynamic.base import Choice, Need, Signals, clipped
from mull.dynamic.estimators.linear import Features


@dataclass(frozen=True, kw_only=True, eq=False)
class Length:
    """λ is linear in the log of the predicted thinking tokens, between two lengths."""

    features: Features
    weights: np.ndarray
    """float64 `[D]`."""
    bias: float
    shortest: float
    longest: float
    """Log tokens that get λ = `low` and λ = `high`."""
    low: float
    high: float
    digest: str = ""
    """Hash of the head file that it came from."""
    name: str = "length"
    needs: frozenset[Need] = field(default=frozenset({Need.hidden_thinking}), init=False)

    def choose(self, signals: Signals) -> Choice:
        log_tokens = self.log_tokens(signals)
        share = float(np.clip((log_tokens - self.shortest) / max(self.longest - self.shortest, 1e-9), 0, 1))
        why = f"Thinking would think for about {np.exp(log_tokens):,.0f} tokens"
        return Choice(clipped(self.low + share * (self.high - self.low)), why, signals.cost(self.needs))

    def log_tokens(self, signals: Signals) -> float:
        """Natural log of the predicted number of thinking tokens of the Thinking end."""
        return float(self.features.of(signals) @ self.weights + self.bias)

    def record(self) -> dict[str, Any]:
        return {"estimator": "length", "head": self.digest}
