from __future__ import annotations

import math

import pytest

from mull.analysis.metrics import Estimate
from mull.analysis.paired import PairedDifference
from mull.reports.format import count, percent, plus_minus, verdict
from mull.reports.table import points, tokens


@pytest.mark.parametrize(
    "value, error, text",
    [
        (12681.4, 310.2, "12,681 ± 310"),
        (27.31, 0.68, "27.3 ± 0.7"),
        (195.4, 85.2, "195 ± 85"),
        (5.0, 0.0, "5.0 ± 0.0"),
        (5.0, math.nan, "5.0 ± ?"),
        (math.nan, math.nan, "–"),
    ],
)
def test_tokens_are_rounded_to_their_error(value, error, text):
    assert count(Estimate(value, error)) == text


def test_shares_are_in_percent():
    assert percent(Estimate(0.71042, 0.01234)) == "71.0 ± 1.2"
    assert percent(Estimate(1.0, 0.0)) == "100.0 ± 0.0"
    assert plus_minus(Estimate(0.12345, 0.00678), most=4) == "0.1235 ± 0.0068"


def test_differences_have_intervals_and_signs():
    change = PairedDifference(-0.1234, 0.02, -0.16, -0.08, 0.001, 30)
    assert points(change) == "−12.3 [−16.0, −8.0]"
    assert points(PairedDifference(-0.00001, 0.02, -0.04, 0.04, 1, 30)) == "0.0 [−4.0, +4.0]"
    assert tokens(PairedDifference(1234.4, 99, 1000, 1400, 0.001, 30)) == "+1,234 [+1,000, +1,400]"
    assert tokens(PairedDifference(7, *[math.nan] * 4, 1)) == "+7 [?]"


def test_an_interval_without_width_is_said_in_words():
    """Its standard error is 0 by formula where all questions agree; that is not certainty."""
    assert points(PairedDifference(0.0, 0.0, 0.0, 0.0, 1, 30)) == "no question differs"
    assert tokens(PairedDifference(0.0, 0.0, 0.0, 0.0, 1, 30)) == "no question differs"
    assert points(PairedDifference(-0.5, 1e-17, -0.5, -0.5, 0, 30)) == "−50.0 on every question"
    assert tokens(PairedDifference(7, 0.0, 7, 7, 0, 30)) == "+7 on every question"


def test_verdicts():
    assert verdict(PairedDifference(1, 1, 0.1, 2, 0.01, 9), "more", "less") == "more"
    assert verdict(PairedDifference(-1, 1, -2, -0.1, 0.01, 9), "more", "less") == "less"
    assert verdict(PairedDifference(1, 1, -0.1, 2, 0.1, 9), "more", "less") == "tie"
    assert verdict(PairedDifference(1, *[math.nan] * 4, 1), "more", "less") == "unknown"
