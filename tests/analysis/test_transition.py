from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mull.analysis.tables import published
from mull.analysis.transition import fit_transition
from mull.errors import MullError

GRID = np.array([0, 0.2, 0.4, 0.45, 0.5, 0.55, 0.6, 0.8, 1])


def logistic(lam, midpoint, scale, low=0.0, high=0.0):
    return low + (1 - low - high) / (1 + np.exp(-(lam - midpoint) / scale))


@settings(max_examples=20, deadline=None)
@given(st.floats(0.44, 0.56), st.floats(0.02, 0.06), st.floats(0, 0.03), st.floats(0, 0.03))
def test_a_logistic_is_recovered(midpoint, scale, low, high):
    fit = fit_transition(GRID, logistic(GRID, midpoint, scale, low, high))
    assert fit.midpoint == pytest.approx(midpoint, abs=0.005)
    assert fit.crossing_5 == pytest.approx(midpoint - scale * math.log(0.95 / 0.05), abs=0.02)
    assert fit.crossing_95 == pytest.approx(midpoint + scale * math.log(0.95 / 0.05), abs=0.02)
    assert fit.largest_residual < 0.01


def test_the_crossings_lie_on_the_curve():
    fit = fit_transition(GRID, logistic(GRID, 0.5, 0.03, 0.02, 0.01))
    at = logistic(np.array([fit.crossing_5, fit.crossing_95, fit.crossing_99]), fit.midpoint, fit.width / 5.88887796)
    assert at == pytest.approx([0.05, 0.95, 0.99])
    assert fit.width == pytest.approx(fit.crossing_95 - fit.crossing_5)


@pytest.mark.parametrize("benchmark", ["aime25", "ifeval", "gpqa_diamond"])
def test_published_tables_fit_to_three_points(benchmark):
    rows = [row for row in published() if row.benchmark == benchmark and row.lam is not None]
    lam, ratio = np.array([(row.lam, row.think_ratio) for row in rows]).T
    fit = fit_transition(lam, ratio)
    curve = logistic(lam, fit.midpoint, fit.width / (2 * math.log(19)), fit.low_lapse, fit.high_lapse)
    assert np.abs(curve - ratio).max() == pytest.approx(fit.largest_residual, abs=1e-6)
    assert fit.largest_residual < 0.03
    assert 0.4 < fit.crossing_5 < 0.45 < fit.midpoint < 0.5 < fit.crossing_95 < 0.6


def test_order_and_common_weight_do_not_matter():
    ratio = logistic(GRID, 0.5, 0.03, 0.02, 0.01)
    fit = fit_transition(GRID, ratio)
    turned = fit_transition(GRID[::-1], 240 * ratio[::-1], 240)
    assert turned.midpoint == pytest.approx(fit.midpoint, abs=1e-4)
    assert turned.width == pytest.approx(fit.width, abs=1e-3)


def test_a_sharp_rise_has_no_width_but_a_bracket():
    fit = fit_transition(GRID, [0, 0, 0, 0, 0, 0, 0, 1, 1])
    assert not fit.identified
    assert math.isnan(fit.crossing_5)
    assert fit.bracket == (0.6, 0.8)
    assert fit.midpoint == pytest.approx(0.7)
    assert fit.width_at_most == pytest.approx(0.2)
    # One λ inside the rise: any steep enough curve goes through it.
    one = fit_transition(GRID, [0, 0, 0, 0, 0, 0, 0.3, 1, 1])
    assert not one.identified
    assert one.bracket == (0.55, 0.8)
    # Nor do plateaus that waver by less than two points settle it.
    assert not fit_transition(GRID, [0, 0.001, 0, 0.004, 0.01, 0.002, 0.012, 0.4, 0.999]).identified
    # Three inside: a step cannot follow.
    assert fit_transition(GRID, [0, 0, 0.04, 0.2, 0.5, 0.8, 0.96, 1, 1]).identified


def test_refusals():
    with pytest.raises(MullError, match="at least 4 λ"):
        fit_transition([0, 0.5, 1], [0, 0.5, 1])
    with pytest.raises(MullError, match="at least 4 λ"):
        fit_transition([0, 0.2, 0.5, 1], [0, math.nan, 0.5, 1])
    with pytest.raises(MullError, match="outside 0–1"):
        fit_transition([0, 0.2, 0.5, 1], [0, 2, 50, 100])
    with pytest.raises(MullError, match="differ in length"):
        fit_transition([0, 0.2, 0.5, 1], [0, 1])
