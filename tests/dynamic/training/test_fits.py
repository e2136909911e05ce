"""The fits against second ways to the same numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats

from mull.dynamic.training import preferences
from mull.dynamic.training.calibration import reliability
from mull.dynamic.training.regression import fit_logistic, fit_ridge
from mull.dynamic.training.selection import PENALTIES, candidates, select
from mull.dynamic.training.train import best_static, spearman

from ..conftest import made_up


def test_the_rule_of_preference_by_its_definition():
    rng = np.random.default_rng(0)
    accuracy = rng.integers(0, 5, size=(40, 4)) / 4
    tokens = rng.choice([10.0, 19.0, 20.0, 40.0], size=(40, 4))
    for epsilon, delta in ((0.25, 0.05), (0.0, 0.05), (0.5, 0.0)):
        found = preferences.preferred(accuracy, tokens, epsilon=epsilon, delta=delta)
        for q in range(40):
            for i in range(4):
                for j in range(4):
                    better = accuracy[q, i] > accuracy[q, j] + epsilon
                    same = abs(accuracy[q, i] - accuracy[q, j]) <= epsilon
                    assert found[q, i, j] == (better or (same and tokens[q, i] < (1 - delta) * tokens[q, j]))
        assert not (found & found.transpose(0, 2, 1)).any()


def test_rounding_does_not_decide_a_preference():
    accuracy = np.array([[0.3, 0.1 + 0.1]])  # a gap of 1/10, a little less in floating point
    tokens = np.array([[10.0, 10.0]])
    for row in (accuracy, accuracy + 0.4, accuracy[:, ::-1]):
        assert not preferences.preferred(row, tokens, epsilon=0.1, delta=0.05).any()


def bradley_terry(flat, features, wins, penalty):
    """The loss, term by term."""
    grid, dimensions = wins.shape[1], features.shape[1]
    weights, biases = flat[: grid * dimensions].reshape(grid, dimensions), flat[grid * dimensions :]
    total = 0.0
    for q in range(len(features)):
        scores = [float(weights[k] @ features[q] + biases[k]) for k in range(grid)]
        for i in range(grid):
            for j in range(grid):
                if wins[q, i, j]:
                    total -= math.log(1 / (1 + math.exp(scores[j] - scores[i])))
    return total / len(features) + penalty / 2 * float((weights**2).sum()) + 5e-7 * float((biases**2).sum())


def small_preferences(seed=0, questions=25):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(questions, 2))
    accuracy = rng.integers(0, 3, size=(questions, 3)) / 2
    return features, preferences.preferred(accuracy, rng.uniform(5, 50, (questions, 3)), epsilon=0.1, delta=0.05)


def test_bradley_terry_reaches_the_optimum_of_a_generic_optimiser(monkeypatch):
    features, wins = small_preferences()
    seen = []
    minimize = preferences.minimize
    monkeypatch.setattr(preferences, "minimize", lambda loss, *a, **k: seen.append(loss) or minimize(loss, *a, **k))
    own = preferences.fit(features, wins, penalty=0.1)
    flat = np.concatenate([own.weights.ravel(), own.biases])
    reference = optimize.minimize(
        bradley_terry, np.zeros(9), args=(features, wins, 0.1), method="BFGS", options={"gtol": 1e-8}
    )
    assert bradley_terry(flat, features, wins, 0.1) == pytest.approx(reference.fun, abs=1e-6)
    np.testing.assert_allclose(own.weights, reference.x[:6].reshape(3, 2), atol=5e-3)
    # The value and the gradient at another place, the latter by finite differences.
    place = np.random.default_rng(1).normal(size=9)
    value, gradient = seen[0](place)
    assert value == pytest.approx(bradley_terry(place, features, wins, 0.1), rel=1e-12)
    steps = 1e-6 * np.eye(9)
    numeric = [
        (bradley_terry(place + s, features, wins, 0.1) - bradley_terry(place - s, features, wins, 0.1)) / 2e-6
        for s in steps
    ]
    np.testing.assert_allclose(gradient, numeric, atol=1e-8)


def test_the_log_loss_of_preferences():
    scores = np.array([[1.0, 0.0, -1.0]])
    wins = np.zeros((1, 3, 3), bool)
    wins[0, 0, 2] = wins[0, 1, 0] = True
    expected = -(math.log(1 / (1 + math.exp(-2))) + math.log(1 / (1 + math.exp(1)))) / 2
    assert preferences.log_loss(scores, wins) == pytest.approx(expected, rel=1e-12)
    assert preferences.log_loss(np.zeros((1, 3)), wins) == pytest.approx(math.log(2), rel=1e-12)
    assert preferences.log_loss(scores, np.zeros_like(wins)) == pytest.approx(math.log(2), rel=1e-12)


def test_logistic_regression():
    # One constant feature: the bias alone decides, and its optimum is the log odds.
    label = np.array([True] * 7 + [False] * 3)
    weights, bias = fit_logistic(np.zeros((10, 1)), label, penalty=0.1)
    assert weights[0] == pytest.approx(0, abs=1e-9) and bias == pytest.approx(math.log(7 / 3), abs=1e-4)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 3))
    label = rng.random(60) < 1 / (1 + np.exp(-features @ [1.0, -2.0, 0.0]))

    def loss(flat):
        p = 1 / (1 + np.exp(-(features @ flat[:3] + flat[3])))
        return -np.mean(np.where(label, np.log(p), np.log(1 - p))) + 0.05 / 2 * (flat[:3] ** 2).sum()

    reference = optimize.minimize(
        loss, np.zeros(4), method="Nelder-Mead", options={"maxiter": 4000, "xatol": 1e-8, "fatol": 1e-12}
    )
    weights, bias = fit_logistic(features, label, penalty=0.05)
    np.testing.assert_allclose([*weights, bias], reference.x, atol=2e-3)


def test_ridge_regression_by_its_normal_equations():
    rng = np.random.default_rng(0)
    features, value = rng.normal(size=(40, 3)) + 5, rng.normal(size=40)
    weights, bias = fit_ridge(features, value, penalty=0.3)
    # With the bias as a further column, which is not penalised, and the sum in place of the mean.
    design = np.column_stack([features, np.ones(40)])
    expected = np.linalg.solve(design.T @ design + 40 * 0.3 * np.diag([1, 1, 1, 0]), design.T @ value)
    np.testing.assert_allclose([*weights, bias], expected, rtol=1e-9)


def test_spearman():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 6, 50).astype(float), rng.integers(0, 6, 50).astype(float)
    assert spearman(a, b + a) == pytest.approx(stats.spearmanr(a, b + a).statistic, rel=1e-12)
    assert math.isnan(spearman(a, np.ones(50))) and math.isnan(spearman(a[:2], b[:2]))


def test_reliability_by_hand():
    predicted = np.array([0.05, 0.07, 0.5, 0.55, 0.58, 1.0])
    happened = np.array([False, True, True, False, True, True])
    found = reliability(predicted, happened)
    assert [each.predictions for each in found.bins] == [2, 3, 1]
    np.testing.assert_allclose([each.predicted for each in found.bins], [0.06, 1.63 / 3, 1.0])
    np.testing.assert_allclose([each.observed for each in found.bins], [0.5, 2 / 3, 1.0])
    assert found.error == pytest.approx((2 * 0.44 + 3 * (2 / 3 - 1.63 / 3)) / 6, rel=1e-12)
    nothing = reliability(np.array([]), np.array([], bool))
    assert nothing.bins == [] and math.isnan(nothing.error)


def test_selection_takes_the_least_mean_loss_and_never_judges_what_it_fitted():
    train = np.arange(23) % 4 != 0
    judged_total = np.zeros(23, int)

    def loss(fit, judged, layer, penalty):
        assert not (fit & judged).any() and ((fit | judged) == train).all() and judged.any()
        judged_total[judged] += layer == 1 and penalty == PENALTIES[0]
        return abs(layer - 1) + abs(penalty - PENALTIES[0])

    found = select([0, 1, 2], train, loss)
    assert (found.layer, found.penalty, found.loss) == (1, PENALTIES[0], 0)
    assert (judged_total == train).all()
    assert candidates(36) == [8, 17, 26, 35] and candidates(1) == [0] and candidates(2)[-1] == 1


def test_the_best_static_lambda_is_the_least_of_equals():
    records, _ = made_up(10)
    records.accuracy[:] = [0.5, 0.796, 0.8]
    everything = np.ones(10, bool)
    assert best_static(records, everything) == 0.5
    records.accuracy[:, 1] = 0.79
    assert best_static(records, everything) == 1.0
