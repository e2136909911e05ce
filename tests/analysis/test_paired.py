from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t

from mull.analysis.paired import contrasts, holm, paired_difference, paired_mean
from mull.errors import MullError


def test_paired_difference_by_hand(sample):
    # Question means: a = 1, 1, 0.5, 0 and b = 0, 1, 0, 0: differences 1, 0, 0.5, 0.
    a = {"q1": [1, 1], "q2": [1], "q3": [1, 0], "q4": [0], "only a": [1]}
    b = {"q1": [0], "q2": [1, 1], "q3": [0], "q4": [0]}
    rows = [
        sample(question, lam, correct=bool(right), index=i)
        for lam, table in ((1.0, a), (0.0, b))
        for question, values in table.items()
        for i, right in enumerate(values)
    ]
    found = paired_difference(rows, "1", "0")
    error = math.sqrt((0.625**2 + 0.375**2 * 2 + 0.125**2) / 3 / 4)
    assert found.questions == 4
    assert found.difference == pytest.approx(0.375)
    assert found.error == pytest.approx(error)
    assert found.difference - found.low == pytest.approx(3.182446 * error, rel=1e-6), "t table, 3 degrees, 97.5 %"
    assert found.high == 1, "a difference of shares is at most 1"
    # Student's t with 3 degrees has the closed form F(t) = 1/2 + (x/(1 + x²) + atan x)/π with x = t/√3.
    x = 0.375 / error / math.sqrt(3)
    assert found.p_value == pytest.approx(1 - 2 * (x / (1 + x * x) + math.atan(x)) / math.pi)
    assert found.tie
    assert paired_difference(rows, "0", "1").difference == pytest.approx(-0.375)


def test_paired_tokens_and_certain_differences(sample):
    rows = [sample(f"q{q}", lam, tokens=100 * q + int(50 * lam)) for q in range(5) for lam in (0.0, 1.0)]
    found = paired_difference(rows, "1", "0", "tokens")
    assert (found.difference, found.error, found.p_value, found.tie) == (50, 0, 0, False)
    same = paired_difference(rows, "1", "0")
    assert (same.difference, same.p_value, same.tie, same.alike) == (0, 1, True, True)
    # Five questions alike: with 95 % confidence at most 1 − 0.025^(1/5) of all questions are others.
    assert (same.low, same.high) == pytest.approx((-0.52182, 0.52182), abs=1e-5)


def test_a_difference_picked_among_many_is_corrected():
    values = np.array([0.5, 0.0, 0.5, 1.0, 0.0, 0.5])
    one, three = paired_mean(values, share=True), paired_mean(values, share=True).corrected(3)
    # Student's t with 5 degrees is 2.570582 at 97.5 %.
    assert one.high - one.difference == pytest.approx(2.570582 * one.error, rel=1e-6)
    assert three.difference - three.low == pytest.approx(float(t.ppf(1 - 0.025 / 3, 5)) * one.error, rel=1e-6)
    assert three.p_value == pytest.approx(3 * one.p_value) and three.error == one.error
    assert one.corrected(least_error=0.4).error == 0.4
    assert paired_mean(np.array([0.9, 1.0]), share=True).high == 1.0, "no share differs by more than 1"
    assert math.isnan(paired_mean(np.array([])).difference) and math.isnan(
        paired_mean(np.array([1.0])).corrected(2).low
    )


def test_undefined_and_refused(sample):
    rows = [sample("q1", 0.0), sample("q1", 1.0, correct=False), sample("q2", 0.5)]
    lone = paired_difference(rows, "0", "1")
    assert lone.difference == 1
    assert math.isnan(lone.error)
    assert lone.tie
    with pytest.raises(MullError, match="share no question"):
        paired_difference(rows, "0", "0.5")
    with pytest.raises(MullError, match=r"no samples of setting '0\.55'.*0\.5"):
        paired_difference(rows, "0.55", "0")


def test_holms_correction():
    """The example of Holm's step-down by hand: 4 × 0.005, 3 × 0.011, 2 × 0.02, then what came before."""
    assert holm([0.02, 0.005, 0.04, 0.011]) == pytest.approx([0.04, 0.02, 0.04, 0.033])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []
    corrected = holm([float("nan"), 0.03])
    assert math.isnan(corrected[0]) and corrected[1] == 0.03


def test_contrasts_against_a_reference(sample):
    rows = [
        sample(f"q{q}", lam, correct=(q + i) % 3 < ahead, index=i, tokens=10 * ahead)
        for lam, ahead in ((1.0, 3), (0.5, 2), (0.0, 1))
        for q in range(6)
        for i in range(2)
    ]
    found = contrasts(rows, "1")
    assert [each.setting for each in found] == ["0.5", "0"]
    assert found[1].accuracy.difference < found[0].accuracy.difference < 0
    assert found[1].tokens.difference == -20
    assert all(each.p_value >= each.accuracy.p_value for each in found)
