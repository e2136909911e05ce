"""Tokens by λ and seconds by load, learned from responses as they come."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mull import tiny
from mull.serving.load.expected import Pace, Running, TokenCurve

PAGE = Path(__file__).parents[3] / "docs" / "tiny-pair.md"


def test_a_running_mean_is_plain_at_first_and_then_forgets():
    mean = Running(4)
    for value in (1, 2, 6):
        mean.add(value)
    assert mean.mean == 3
    for _ in range(40):
        mean.add(10)
    assert mean.mean == pytest.approx(10, abs=1e-3)


def test_a_measured_curve_is_followed_and_stretched_by_longer_responses():
    curve = TokenCurve({0.0: 10, 0.5: 20, 1.0: 100})
    assert [curve.at(lam) for lam in (0.0, 0.25, 0.5, 0.75, 1.0)] == pytest.approx([10, 15, 20, 60, 100])
    for _ in range(2000):
        curve.add(0.5, 60)
    assert curve.at(0.5) == pytest.approx(60, rel=1e-3) and curve.at(1.0) == pytest.approx(300, rel=1e-3)


def test_a_curve_is_learned_from_responses_and_assumed_to_fall_in_proportion_below_them():
    curve = TokenCurve()
    assert curve.at(0.5) is None
    curve.add(0.8, 800)
    assert [curve.at(lam) for lam in (0.0, 0.4, 0.8, 1.0)] == pytest.approx([0, 400, 800, 800])
    curve.add(0.4, 1000)  # more, as it is at λ where a model only begins to think
    assert [curve.at(lam) for lam in (0.2, 0.4, 0.6, 0.8)] == pytest.approx([500, 1000, 900, 800])
    curve.add(0.0, 30)
    assert curve.at(0.2) == pytest.approx(515)


def test_a_response_that_was_cut_off_does_not_make_the_others_short():
    curve = TokenCurve({0.0: 100})
    curve.add(0.0, 7, whole=False)
    assert curve.at(0.0) == pytest.approx(100)
    curve.add(0.0, 1000, whole=False)
    assert curve.at(0.0) > 120
    curve = TokenCurve()
    curve.add(0.5, 7, whole=False)
    assert curve.at(0.5) == 7


def test_the_pace_is_that_of_the_most_similar_load():
    pace = Pace(10)
    assert pace.at(5) is None
    pace.add(1, 0.1)
    pace.add(40, 4.0)
    assert [pace.at(load) for load in (1, 3, 10, 32, 63, 4000)] == [0.1, 0.1, 4.0, 4.0, 4.0, 4.0]


def test_the_figures_of_the_built_in_pair_are_those_of_its_page():
    rows = re.findall(r"^\| ([\d.]+) \|(?:[^|]*\|){2} ([\d.]+)[^|]*\| ([\d.]+)[^|]*\|", PAGE.read_text(), re.MULTILINE)
    shown = {float(lam): (float(think), float(tokens)) for lam, think, tokens in rows}
    assert {lam: tokens for lam, (_, tokens) in shown.items()} == tiny.TOKENS
    assert {lam: think for lam, (think, _) in shown.items()} == pytest.approx(
        {lam: 100 * share for lam, share in tiny.THINK_RATIO.items()}, abs=0.051
    )
