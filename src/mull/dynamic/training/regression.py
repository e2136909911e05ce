"""The two simple fits: a logistic regression for the router, a ridge regression for the length."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit


def fit_logistic(features_QD: np.ndarray, label_Q: np.ndarray, *, penalty: float) -> tuple[np.ndarray, float]:
    """Weights `[D]` and bias that minimise the mean log loss of P(label) = σ(w·φ + b), plus `penalty`/2·‖w‖²."""
    sign = np.where(label_Q, 1.0, -1.0)

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (features_QD @ flat[:-1] + flat[-1])
        pull = -sign * expit(-margin) / len(sign)
        value = float(np.logaddexp(0, -margin).mean()) + penalty / 2 * float(flat[:-1] @ flat[:-1])
        return value, np.append(features_QD.T @ pull + penalty * flat[:-1], pull.sum())

    found = minimize(loss, np.zeros(features_QD.shape[1] + 1), jac=True, method="L-BFGS-B").x
    return found[:-1], float(found[-1])


def fit_ridge(features_QD: np.ndarray, value_Q: np.ndarray, *, penalty: float) -> tuple[np.ndarray, float]:
    """Weights `[D]` and bias that minimise the mean of (w·φ + b − value)², plus `penalty`·‖w‖²; φ has mean 0."""
    bias = float(value_Q.mean())
    centred = features_QD - features_QD.mean(0)
    gram = centred.T @ centred / len(value_Q) + penalty * np.eye(features_QD.shape[1])
    weights = np.linalg.solve(gram, centred.T @ (value_Q - bias) / len(value_Q))
    return weights, bias - float(features_QD.mean(0) @ weights)
