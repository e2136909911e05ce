"""Values per question, and who leads, by hand."""

import math

import pytest

from mull.analysis.by_question import (
    Scored,
    by_question,
    differences_by_question,
    fewest_samples,
    leaders,
)


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
