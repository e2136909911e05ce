"""Head-room: the allocation is optimal, oracles gain where λ should differ, and nothing where it should not."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from mull.analysis.choosing.headroom import allocate, headroom
from mull.analysis.frontier import concave_hull
from mull.errors import MullError

LAMBDAS = (0.0, 0.5, 1.0)


def _samples(sample, right, cost, *, per_stratum=40, k=8, seed=0):
    """Responses drawn with the chances `right[stratum][λ]`, of `cost[stratum][λ]` tokens give or take one."""
    rng = np.random.default_rng(seed)
    return [
        sample(
            f"{stratum}-{q:03d}",
            lam,
            correct=bool(rng.random() < right[stratum][i]),
            tokens=int(cost[stratum][i] + rng.integers(-1, 2)),
            stratum=stratum,
            index=index,
        )
        for stratum in right
        for q in range(per_stratum)
        for i, lam in enumerate(LAMBDAS)
        for index in range(k)
    ]


@settings(deadline=None, max_examples=150)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**31), st.floats(0, 1))
def test_allocation_is_that_of_linear_programming(groups, choices, seed, where):
    rng = np.random.default_rng(seed)
    right, cost = rng.random((groups, choices)), rng.integers(1, 30, (groups, choices)).astype(float)
    share = rng.integers(1, 9, groups) / 1.0
    least, most = (share @ cost.min(axis=1)) / share.sum(), (share @ cost.max(axis=1)) / share.sum()
    budget = least + where * (most - least)
    weights = allocate(right, cost, share, budget=budget)
    value = share / share.sum()
    ones = np.kron(np.eye(groups), np.ones(choices))
    best = linprog(
        -(value[:, None] * right).ravel(),
        A_ub=(value[:, None] * cost).ravel()[None],
        b_ub=[budget + 1e-12],
        A_eq=ones,
        b_eq=np.ones(groups),
        bounds=(0, 1),
    )
    assert np.allclose(weights.sum(axis=1), 1) and (weights >= 0).all()
    assert (value[:, None] * weights * cost).sum() <= budget + 1e-9
    assert (value[:, None] * weights * right).sum() == pytest.approx(-best.fun, abs=1e-6)


def test_a_target_is_reached_and_no_more_is_spent():
    right, cost = np.array([[0.2, 0.8], [0.9, 1.0]]), np.array([[10.0, 110.0], [10.0, 110.0]])
    weights = allocate(right, cost, np.ones(2), target=0.7)
    assert weights[1].tolist() == [1, 0]  # a hundred tokens buy 0.6 in the first group and 0.1 in the second
    assert (weights * right).sum() / 2 == pytest.approx(0.7)


def test_frontier_drops_what_mixtures_of_others_beat():
    tokens, accuracy = np.array([10.0, 20.0, 30.0, 40.0, 50.0]), np.array([0.1, 0.3, 0.8, 0.7, 0.9])
    assert concave_hull(tokens, accuracy) == [0, 2, 4]


def test_an_oracle_by_stratum_gains_where_strata_need_different_lambdas(sample):
    right = {"easy": (1.0, 1.0, 1.0), "hard": (0.0, 0.9, 0.9)}
    cost = {"easy": (10, 100, 200), "hard": (10, 100, 200)}
    found = headroom(_samples(sample, right, cost))
    (by_stratum, _) = found.oracles
    assert found.best == "0.5"
    # Half easy at 10 tokens, half hard at 100: 55 tokens; at 50 tokens 40 of 90 steps of hard questions are bought.
    half = next(gain for gain in by_stratum.gains if gain.share == 0.5)
    assert half.tokens == pytest.approx(50, abs=1)
    assert half.static == pytest.approx(0.5 + 0.45 * 40 / 90, abs=0.03)
    assert half.gain.value == pytest.approx(0.9 * 40 / 90 * 0.5, abs=0.05)
    assert half.gain.low > 0.1
    assert by_stratum.saving.saved.value == pytest.approx(0.45, abs=0.03)
    assert by_stratum.saving.difference.low <= 0 <= by_stratum.saving.difference.high
    assert by_stratum.pays
    assert found.allotted["easy"] == {"0": 1.0}


def test_no_oracle_gains_where_strata_are_alike(sample):
    right, cost = (0.2, 0.6, 0.9), (10, 100, 200)
    gains = []
    for seed in range(4):
        found = headroom(_samples(sample, dict.fromkeys("ab", right), dict.fromkeys("ab", cost), seed=seed))
        gains += [gain.gain for oracle in found.oracles for gain in oracle.gains]
    assert np.mean([gain.value for gain in gains]) == pytest.approx(0, abs=0.02)
    assert sum(gain.low > 0 for gain in gains) <= len(gains) // 8


def test_luck_in_the_fitted_half_does_not_count(sample):
    """Questions differ by nothing but chance: an oracle that was counted on its own samples would be right always."""
    right, cost = {"": (0.5, 0.5, 0.5)}, {"": (10, 10, 10)}
    found = []
    for seed in range(8):
        (oracle,) = headroom(_samples(sample, right, cost, per_stratum=200, k=2, seed=seed)).oracles
        assert oracle.kind == "question"
        found += [gain.accuracy for gain in oracle.gains]
    assert np.mean(found) == pytest.approx(0.5, abs=0.05)


def test_incomplete_questions_are_left_out_and_counted(sample):
    right, cost = {"easy": (1.0, 1.0, 1.0), "hard": (0.0, 0.9, 0.9)}, dict.fromkeys(("easy", "hard"), (10, 100, 200))
    samples = [s for s in _samples(sample, right, cost) if (s.question, s.setting) != ("hard-003", "1")]
    found = headroom(samples)
    assert (found.questions, found.left_out) == (79, 1)


def test_what_cannot_be_told_is_refused(sample):
    right, cost = {"easy": (1.0, 1.0, 1.0)}, {"easy": (10, 100, 200)}
    whole = _samples(sample, right, cost)
    with pytest.raises(MullError, match="two λ"):
        headroom([s for s in whole if s.lam == 1.0])
    with pytest.raises(MullError, match="two responses"):
        headroom([s for s in whole if s.index == 0])
    with pytest.raises(MullError, match="10 questions"):
        headroom([s for s in whole if s.question in {q for q, _ in itertools.groupby(s.question for s in whole[:200])}])


def test_settings_without_a_lambda_do_not_count(sample):
    right, cost = {"easy": (1.0, 1.0, 1.0), "hard": (0.0, 0.9, 0.9)}, dict.fromkeys(("easy", "hard"), (10, 100, 200))
    samples = _samples(sample, right, cost)
    other = [sample(s.question, None, correct=True, tokens=1, stratum=s.stratum, index=s.index) for s in samples[:24]]
    assert headroom([*samples, *other]) == headroom(samples)
