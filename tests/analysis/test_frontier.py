from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from mull.analysis.frontier import Point, dominates, non_dominated, points_of
from mull.analysis.metrics import Estimate, metrics


def point(setting, accuracy, tokens, error=0.01, tokens_error=5.0):
    return Point(setting, Estimate(accuracy, error), Estimate(tokens, tokens_error))


def test_frontier_by_hand():
    points = [
        point("cheap", 0.5, 100),
        point("worse", 0.4, 150),
        point("good", 0.8, 200),
        point("nearly", 0.79, 230),
        point("dear", 0.8, 300),
        point("best", 0.9, 900),
        point("unknown", math.nan, 1),
    ]
    found = non_dominated(points)
    assert [p.setting for p in found.points] == ["cheap", "good", "best"]
    # "between" is near "dear" but clearly beaten by "cheap" on both: near means near to all that dominate it.
    between = [point("cheap", 0.9, 100), point("dear", 0.95, 300, error=0.2), point("between", 0.8, 301)]
    assert non_dominated(between).near == []
    # Independent errors add to √2 points: 0.79 and 0.80 are within it of "good", 0.4 is not of "cheap".
    assert [(n.point.setting, n.dominated_by) for n in found.near] == [("nearly", "good"), ("dear", "good")]
    assert found.near[0].note == "within one standard error of good: 1.00 ± 1.41 points of accuracy"


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_every_setting_is_on_the_frontier_or_below_one_that_is(pairs):
    points = [point(str(i), float(a), float(t)) for i, (a, t) in enumerate(pairs)]
    best = non_dominated(points).points
    for p in points:
        assert (p in best) != any(dominates(other, p) for other in best)


def test_pairing_tells_apart_what_independent_errors_do_not(sample):
    # Questions differ widely, λ = 1 costs always 10 tokens more and answers q0 wrong.
    rows = [
        sample(f"q{q}", lam, correct=q % 2 == 0 and not (lam and q == 0), tokens=1000 * q + int(10 * lam) + 1)
        for q in range(8)
        for lam in (0.0, 1.0)
    ]
    points = points_of(metrics(rows))
    independent = non_dominated(points).near
    assert "tokens" in independent[0].note
    paired = non_dominated(points, rows).near
    assert paired[0].note == "within one standard error of 0: 12.50 ± 12.50 points of accuracy"
