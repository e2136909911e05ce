from __future__ import annotations

import itertools
import math
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mull.analysis.metrics import (
    bootstrap,
    by_stratum,
    clustered_mean,
    clustered_quantile,
    metrics,
    pass_at_k,
    vote,
)
from mull.errors import MullError


@given(st.integers(1, 8), st.data())
def test_pass_at_k_is_the_share_of_draws_with_a_hit(n, data):
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    draws = list(itertools.combinations([i < c for i in range(n)], k))
    assert pass_at_k(n, c, k) == pytest.approx(float(Fraction(sum(map(any, draws)), len(draws))), abs=1e-12)


def test_pass_at_k_large_and_undefined():
    exact = 1 - Fraction(math.comb(990, 500), math.comb(1000, 500))
    assert pass_at_k(1000, 10, 500) == pytest.approx(float(exact), rel=1e-12)
    assert math.isnan(pass_at_k(3, 1, 4))


@given(st.lists(st.lists(st.floats(-5, 5), min_size=1, max_size=4), min_size=2, max_size=6))
def test_clustered_error_is_the_sum_over_pairs_within_questions(groups):
    """Miller 2024, eq. 4, written out as its double sum, times C/(C − 1)."""
    values = [v for group in groups for v in group]
    mean = sum(values) / len(values)
    pairs = sum((a - mean) * (b - mean) for group in groups for a in group for b in group)
    expected = math.sqrt(max(pairs, 0) * len(groups) / (len(groups) - 1)) / len(values)
    cluster = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    found = clustered_mean(np.array(values), cluster)
    assert found.value == pytest.approx(mean, abs=1e-9)
    assert found.error == pytest.approx(expected, abs=1e-6)


def test_clustered_error_of_equal_clusters_is_that_of_their_means():
    # Question means 1, 0.5, 0: standard deviation 0.5, over three questions.
    found = clustered_mean(np.array([1, 1, 1, 0, 0, 0.0]), np.array([0, 0, 1, 1, 2, 2]))
    assert found == pytest.approx((0.5, 0.5 / math.sqrt(3)))
    assert math.isnan(clustered_mean(np.array([1.0, 0.0]), np.array([0, 0])).error)


def test_clustered_quantile():
    values = np.arange(1, 401, dtype=float)
    found = clustered_quantile(values, np.arange(400), 0.5)
    assert found.value == 200.5
    # The share below the median has the error 0.5/√400 = 0.025, which is 10 ranks of 400.
    assert found.error == pytest.approx(10, rel=0.02)


def test_vote_by_hand():
    assert vote(["7", "7", "8"], [True, True, False]) == 1.0
    assert vote(["7", "8", "8"], [True, False, False]) == 0.0
    assert vote(["7", "8"], [True, False]) == 0.5
    assert vote(["7", "8", "9"], [True, False, False]) == pytest.approx(1 / 3)
    assert vote(["", "", "7"], [False, False, True]) == 1.0
    assert vote(["", ""], [False, False]) == 0.0
    answers, right = ["1/2", "0.5", "3", "3", "0.50"], [True, True, False, False, True]
    assert vote(answers, right) == 0.0
    assert vote(answers, right, lambda a, b: float(Fraction(a)) == float(Fraction(b))) == 1.0


def test_metrics_by_hand(sample):
    rows = [
        sample("q1", correct=True, tokens=10, thinking="closed", index=0),
        sample("q1", correct=False, tokens=30, thinking="closed", index=1),
        sample("q2", correct=True, tokens=20, thinking="none", index=0),
        sample("q2", correct=True, tokens=40, thinking="unclosed", finish="length", answer=" ", index=1),
        sample("q2", correct=True, tokens=50, thinking="pseudo-closed", index=2),
    ]
    (m,) = metrics(rows)
    assert (m.setting, m.lam, m.questions, m.samples, m.k) == ("0.5", 0.5, 2, 5, 2)
    assert m.mean_at_k.value == pytest.approx(4 / 5)
    # Sums of deviations: q1 (1 + 0 − 1.6) = −0.6 and q2 0.6; √(2/1 · 0.72)/5.
    assert m.mean_at_k.error == pytest.approx(math.sqrt(2 * 0.72) / 5)
    assert m.pass_at_k.value == 1.0
    assert m.vote_at_k == pytest.approx((0.75, 0.25))
    assert m.tokens.value == 30
    assert m.think_ratio.value == pytest.approx(0.4)
    assert {kind: share.value for kind, share in m.thinking.items()} == pytest.approx(
        {"none": 0.2, "closed": 0.4, "forced": 0.0, "pseudo-closed": 0.2, "unclosed": 0.2}
    )
    assert m.truncation.value == pytest.approx(0.2)
    assert m.unanswered.value == pytest.approx(0.2), "a blank is no answer"
    assert metrics(rows, k=1)[0].pass_at_k.value == pytest.approx((0.5 + 1) / 2)
    assert math.isnan(metrics(rows, k=3)[0].pass_at_k.value), "q1 has two samples only"


def test_what_the_grader_could_not_read_is_told_from_what_is_wrong(sample):
    rows = [
        sample("q1", correct=True, answer="7"),
        sample("q2", correct=False, answer="8"),
        sample("q3", correct=False, answer=""),
        sample("q4", correct=False, answer="{+", scores={"unparsed": 1.0}),
    ]
    (m,) = metrics(rows)
    assert (m.mean_at_k.value, m.unanswered.value, m.unparsed.value) == (0.25, 0.25, 0.5)


def test_metrics_order_and_limits(sample):
    rows = [sample(lam=lam) for lam in (None, 1.0, 0.2, 0.0)]
    assert [m.lam for m in metrics(rows)] == [0.0, 0.2, 1.0, None]
    assert math.isnan(metrics(rows)[0].mean_at_k.error)
    assert metrics([]) == []
    for k in (0, 2):
        with pytest.raises(MullError, match=rf"k must lie in \[1, 1\], got {k}"):
            metrics(rows, k=k)


def test_by_stratum(sample):
    rows = [sample("q1", stratum="hard", correct=False), sample("q2", stratum="easy")]
    found = by_stratum(rows)
    assert list(found) == ["easy", "hard"]
    assert found["easy"][0].mean_at_k.value == 1.0
    assert found["hard"][0].mean_at_k.value == 0.0


def test_bootstrap_draws_as_many_questions_as_there_are():
    drawn = bootstrap(30, resamples=500, seed=3)
    assert drawn.shape == (500, 30)
    assert (drawn.sum(axis=1) == 30).all()
    assert (drawn == bootstrap(30, resamples=500, seed=3)).all()
    assert not (drawn == bootstrap(30, resamples=500, seed=4)).all()
    values = np.arange(30.0)
    assert (drawn @ values / 30).std() == pytest.approx(values.std() / math.sqrt(30), rel=0.15)


def test_a_hundred_thousand_samples_take_seconds(sample):
    rows = [sample(f"q{q}", lam, index=i) for lam in (0.0, 1.0) for q in range(500) for i in range(100)]
    began = time.process_time()
    assert sum(m.samples for m in metrics(rows)) == 100_000
    assert time.process_time() - began < 5
