"""Values per question and their paired bootstrap, by hand and against a t test."""

import math

import numpy as np
import pytest

from mull.analysis.by_question import (
    Scored,
    bootstrapped,
    by_question,
    differences_by_question,
    fewest_samples,
    leaders,
)
from mull.analysis.paired import paired_mean


def test_values_per_question_by_hand(sample):
    rows = [
        sample("q1", 0.5, correct=True, tokens=10, thinking="closed"),
        sample("q1", 0.5, correct=False, tokens=30, index=1),
        sample("q2", 0.5, correct=False, tokens=20),
        sample("q2", 0.5, correct=False, tokens=40, answer="2", index=1),
        sample("q1", 1.0, correct=True, tokens=50, thinking="closed"),
        sample("q1", 1.0, correct=True, tokens=50, thinking="closed", index=1),
        sample("q3", 1.0, correct=True),
        sample("q3", 1.0, correct=True, index=1),
    ]
    found = by_question(rows)
    assert found["0.5"]["q1"] == (0.5, 1.0, 0.5, 20, 0.5)
    assert found["0.5"]["q2"] == (0, 0, 0, 30, 0)
    assert by_question(rows, k=1)["0.5"]["q1"].pass_at_k == pytest.approx(0.5)
    # Only q1 was answered by both.
    assert differences_by_question(found, "1", "0.5", "mean_at_k").tolist() == [0.5]
    assert differences_by_question(found, "1", "0.5", "tokens").tolist() == [30]


def test_bootstrap_agrees_with_the_t_test_on_many_questions():
    values = np.random.default_rng(1).normal(0.05, 0.4, size=300)
    t, found = paired_mean(values), bootstrapped(values)
    assert found.difference == t.difference
    assert found.error == pytest.approx(t.error, rel=0.03)
    assert (found.low, found.high) == pytest.approx((t.low, t.high), abs=0.1 * t.error)
    assert found.p_value == pytest.approx(t.p_value, abs=0.01)
    assert bootstrapped(values) == found, "the same draws each time"


def test_bootstrap_of_two_questions_by_hand():
    # Resampled means are 0, 1 and 2 with 1/4, 1/2, 1/4; |d* − 1| ≥ 1 in half of them.
    found = bootstrapped(np.array([0.0, 2.0]))
    assert (found.difference, found.low, found.high) == (1, 0, 2)
    assert found.p_value == pytest.approx(0.5, abs=0.02)
    assert found.error == pytest.approx(math.sqrt(0.5), rel=0.02)


def test_what_cannot_be_resampled():
    assert math.isnan(bootstrapped(np.array([1.0])).p_value)
    assert math.isnan(bootstrapped(np.array([])).difference)
    alike = bootstrapped(np.array([0.5, 0.5, 0.5]))
    assert alike.difference == 0.5 and math.isnan(alike.p_value), "no resample can question it"
    assert bootstrapped(np.zeros(3)).p_value == 1.0


def scored(**means):
    """Setting → question → values, of the same value in every metric."""
    return {s: {f"q{i}": Scored(v, v, v, v, v) for i, v in enumerate(values)} for s, values in means.items()}


@pytest.mark.parametrize(
    "values, marks",
    [
        # Differences of 1, 1, 1 and of 1, 0, 1 (mean 2/3, error 1/3).
        ({"a": [1, 1, 1], "b": [0, 1, 0], "c": [0, 0, 0]}, ["best", "near-second", "near-second"]),
        ({"a": [1, 1, 1], "b": [0.5, 0.5, 0.5], "c": [0, 0, 0]}, ["best", "second", ""]),
        # a − b is 1, 0, 0: mean 1/3, error 1/3.
        ({"a": [1, 1, 1], "b": [0, 1, 1], "c": [0, 0, 0]}, ["near-best", "near-best", ""]),
        ({"c": [0, 0], "a": [1, 1], "b": [1, 1]}, ["", "near-best", "near-best"]),
        ({"a": [1], "b": [0]}, ["near-best", "near-best"]),  # one question has no error
        ({"a": [1, 1]}, ["best"]),
        ({"a": [math.nan] * 2, "b": [0, 0]}, ["", "best"]),
    ],
)
def test_leaders_are_marked_where_the_data_can_tell(values, marks):
    assert list(leaders(scored(**values), "pass_at_k").values()) == marks


def test_all_settings_have_one_k(sample):
    rows = [
        sample(question, lam, correct=i == 0, index=i)
        for lam in (0.5, 1.0)
        for question in ("q1", "q2")
        for i in range(1 if (lam, question) == (1.0, "q1") else 8)
    ]
    assert fewest_samples(rows) == 1 and fewest_samples([]) == 0
    found = by_question(rows)
    # Pass@8 would be 1 beside the Pass@1 of the setting with a question of a single sample.
    assert found["0.5"]["q2"].pass_at_k == found["1"]["q2"].pass_at_k == pytest.approx(1 / 8)


def test_settings_that_answered_different_questions_are_not_ranked():
    found = scored(a=[1, 1, 1, 0, 0, 0], b=[0.9, 0.9, 0.9])
    assert set(leaders(found, "mean_at_k").values()) == {""}
    assert set(leaders({"a": found["a"], "none": {}}, "mean_at_k").values()) == {""}
