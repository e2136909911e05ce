"""Bradley–Terry scores for the λ of a grid, from preferences of accuracy and of length.

The rule of preference and the form of the score are our reconstruction of DAMI-Pref. Axes: Q questions, K λ, D
features.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

MARGIN = 0.02
"""Utilities nearer than this count as equal."""


class Scores(NamedTuple):
    """r(q, λ_k) = w_k·φ(q) + b_k."""

    weights: np.ndarray
    """`[K, D]`."""
    biases: np.ndarray
    """`[K]`."""

    def of(self, features_QD: np.ndarray) -> np.ndarray:
        """r `[Q, K]`."""
        return features_QD @ self.weights.T + self.biases


def preferred(accuracy_QK: np.ndarray, tokens_QK: np.ndarray, *, epsilon: float, delta: float) -> np.ndarray:
    """Which λ is preferred to which for each question: bool `[Q, K, K]`, true at [q, i, j] if i ≻ j.

    λ_i ≻ λ_j if a_i > a_j + ε, or |a_i − a_j| ≤ ε and ℓ_i < (1 − δ)·ℓ_j, for accuracies a and mean lengths ℓ.
    """
    gap = accuracy_QK[:, :, None] - accuracy_QK[:, None, :]
    shorter = tokens_QK[:, :, None] < (1 - delta) * tokens_QK[:, None, :]
    # Accuracies are multiples of 1/samples, and so is ε by default: without the margin, rounding would decide.
    return (gap > epsilon + 1e-9) | ((np.abs(gap) <= epsilon + 1e-9) & shorter)


def preferred_by_utility(accuracy_QK: np.ndarray, tokens_QK: np.ndarray, *, beta: float) -> np.ndarray:
    """The same by utility u = a − β·ℓ/ℓ₁, with ℓ₁ the mean length of the grid's last λ over all questions: i ≻ j where
    u_i exceeds u_j by more than `MARGIN` (after AdaMix's utility; our choice of scale)."""
    utility = accuracy_QK - beta * tokens_QK / tokens_QK[:, -1].mean()
    return utility[:, :, None] - utility[:, None, :] > MARGIN


def fit(features_QD: np.ndarray, preferred_QKK: np.ndarray, *, penalty: float) -> Scores:
    """The scores that minimise Σ −log σ(r(q, λ_i) − r(q, λ_j)) / Q over the preferences i ≻ j of all questions, plus
    `penalty`/2·‖w‖² (Bradley & Terry 1952). Convex; found by L-BFGS."""
    questions, dimensions = features_QD.shape
    grid = preferred_QKK.shape[1]
    wins = preferred_QKK.astype(float)

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        scores = _unpacked(flat, grid, dimensions)
        r_QK = scores.of(features_QD)
        gap = r_QK[:, :, None] - r_QK[:, None, :]
        value = float((wins * np.logaddexp(0, -gap)).sum()) / questions
        pull = wins * expit(-gap) / questions
        by_score = pull.sum(1) - pull.sum(2)  # dLoss/dr
        weights = by_score.T @ features_QD + penalty * scores.weights
        biases = by_score.sum(0) + 1e-6 * scores.biases  # biases matter up to a constant, which this sets
        value += penalty / 2 * float((scores.weights**2).sum()) + 5e-7 * float((scores.biases**2).sum())
        return value, np.concatenate([weights.ravel(), biases])

    start = np.zeros(grid * dimensions + grid)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 150})
    return _unpacked(found.x, grid, dimensions)


def log_loss(scores_QK: np.ndarray, preferred_QKK: np.ndarray) -> float:
    """Mean of −log σ(r_i − r_j) over all preferences; ln 2 for scores that know nothing, and without any preference."""
    gap = scores_QK[:, :, None] - scores_QK[:, None, :]
    return float(np.logaddexp(0, -gap)[preferred_QKK].mean()) if preferred_QKK.any() else math.log(2)


def _unpacked(flat: np.ndarray, grid: int, dimensions: int) -> Scores:
    return Scores(flat[: grid * dimensions].reshape(grid, dimensions), flat[grid * dimensions :])
