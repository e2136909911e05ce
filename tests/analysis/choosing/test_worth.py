from __future__ import annotations

import math

import numpy as np
import pytest

from mull.analysis.choosing.choose import choose
from mull.analysis.choosing.options import Goal
from mull.analysis.choosing.worth import what_is_open


def rows(sample, lam, tokens_QK, correct=True):
    return [
        sample(f"q{q:02d}", lam, index=i, tokens=int(t), correct=correct)
        for q, each in enumerate(tokens_QK)
        for i, t in enumerate(each)
    ]


def test_noise_within_questions_shrinks_with_samples_and_differences_between_them_do_not(sample):
    generator = np.random.default_rng(0)
    noise = np.round(generator.normal(0, 40, (50, 4))) + 100
    between = np.repeat(np.round(generator.normal(0, 40, (50, 1))), 4, axis=1) + 100
    for tokens_QK, shrinks in ((noise, True), (between, False)):
        samples = rows(sample, 0.5, tokens_QK)
        (found,) = what_is_open(samples, choose(samples, Goal(budget=float(tokens_QK.mean()) + 1)))
        assert (found.kind, found.rival) == ("constraint", "")
        assert found.gap == pytest.approx(1)
        assert found.more_questions == pytest.approx(found.error / math.sqrt(2))
        if shrinks:
            assert found.more_samples == pytest.approx(found.error / math.sqrt(2), rel=0.15)
        else:
            assert found.more_samples == found.error
        assert found.factor == pytest.approx((1.96 * found.error) ** 2)


def test_a_clear_choice_leaves_nothing_open(sample):
    samples = rows(sample, 0.0, [[10]] * 200, correct=False) + rows(sample, 1.0, [[20]] * 200)
    assert what_is_open(samples, choose(samples, Goal(budget=30))) == []


def test_a_tie_is_open_while_it_may_matter(sample):
    for questions, is_open in ((20, True), (2000, False)):
        samples = rows(sample, 0.5, [[20]] * questions) + rows(sample, 0.8, [[30]] * questions)
        found = what_is_open(samples, choose(samples, Goal(budget=40), fresh=False))
        assert [each.rival for each in found] == (["0.8"] if is_open else [])
        if is_open:
            assert found[0].gap == 0 and found[0].factor == math.inf and found[0].error == pytest.approx(1 / 20)


def test_what_misses_the_goal_narrowly_is_open(sample):
    samples = rows(sample, 0.5, [[20], [60], [30], [70]])
    (found,) = what_is_open(samples, choose(samples, Goal(budget=40)))
    assert found.gap == -5
