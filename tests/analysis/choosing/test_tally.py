from __future__ import annotations

import math

import numpy as np
import pytest

from mull.analysis.choosing.options import Goal
from mull.analysis.choosing.tally import Tally


@pytest.fixture
def tally(sample):
    rows = [
        sample(f"q{q}", lam, index=i, correct=q > 0, tokens=10 * q + i)
        for lam in (0.5, 0.0)
        for q in range(4)
        for i in (0, 1)
    ]
    return Tally.of([*rows, sample("q9", None, tokens=7)], Goal(budget=20))


def test_sums_by_setting_and_question(tally):
    assert tally.settings == ("0", "0.5", "TA") and tally.lams == (0.0, 0.5, None)
    assert tally.count.tolist() == [[2, 2, 2, 2, 0]] * 2 + [[0, 0, 0, 0, 1]]
    assert tally.tokens[0].tolist() == [1, 21, 41, 61, 0]
    assert tally.correct[1].tolist() == [0, 2, 2, 2, 0]
    assert tally.within[0].tolist() == [2, 2, 1, 0, 0]
    assert tally.samples.tolist() == [[8, 8, 1]]


def test_resamples_keep_pairs_together_and_are_smoothed_by_one_response(tally):
    drawn = tally.resample(4000)
    assert np.allclose(drawn.tokens[:, 0], drawn.tokens[:, 1], equal_nan=True)
    both = np.isfinite(drawn.accuracy[:, 0])
    assert np.std((drawn.accuracy[:, 0] - drawn.accuracy[:, 1])[both]) == pytest.approx(math.sqrt(2) / 8, rel=0.05)
    assert np.isnan(drawn.accuracy[:, 2]).any(), "not every resample draws the only question of TA"
    assert np.array_equal(drawn.accuracy, tally.resample(4000).accuracy, equal_nan=True)


def test_no_difference_in_n_responses_has_the_error_of_one(tally):
    found = tally.accuracy_difference(0, 1)
    assert (found.difference, found.error) == (0, 1 / 8)
    assert found.high == pytest.approx(3.182446 / 8, rel=1e-6)
    assert tally.token_difference(0, 1).error == 0
    apart = tally.accuracy_difference(0, 2)
    assert apart.questions == 0 and math.isnan(apart.difference)


def test_more_comparisons_widen_the_interval(tally):
    one = tally.accuracy_difference(0, 1)
    two = one.corrected(2)
    assert two.high > one.high and two.low < one.low and two.p_value == 1.0
