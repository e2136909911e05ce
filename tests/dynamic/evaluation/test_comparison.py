"""The comparison with the static frontier, against the same sums written down again."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from mull.analysis.records import Sample
from mull.dynamic.evaluation.comparison import MOST_WEIGHT, Means, above, break_even, pooled, question_means, table
from mull.errors import MullError


def means(accuracy, tokens, prefilled=0.0, benchmark=0):
    accuracy = np.array(accuracy, float)
    spread = np.ones(len(accuracy))
    return Means(accuracy, tokens * spread, prefilled * spread, (benchmark * spread).astype(int))


def noisy(level, tokens, seed, questions=40, prefilled=0.0):
    rng = np.random.default_rng(seed)
    return Means(
        np.clip(level + 0.2 * rng.normal(size=questions), 0, 1),
        tokens * rng.uniform(0.7, 1.3, questions),
        np.full(questions, prefilled),
        np.zeros(questions, int),
    )


STATIC = [noisy(0.3, 20, 1), noisy(0.35, 40, 2), noisy(0.8, 60, 3), noisy(0.7, 90, 4)]


def height(own, static):
    """Above the upper hull of the static means, by the best mixture of any two that costs as much."""
    tokens = own.tokens.mean()
    best = -math.inf
    points = [(s.tokens.mean(), s.accuracy.mean()) for s in static]
    for t_a, a in points:
        for t_b, b in points:
            if t_a <= tokens <= t_b and t_a < t_b:
                best = max(best, a + (b - a) * (tokens - t_a) / (t_b - t_a))
        if t_a <= tokens:  # more tokens than needed may be spent on nothing
            best = max(best, a)
    return own.accuracy.mean() - best


@pytest.mark.parametrize("tokens", [25, 39, 47, 58, 75, 120])
def test_the_height_over_the_hull(tokens):
    own = noisy(0.6, tokens, 9)
    assert above(own, STATIC).difference == pytest.approx(height(own, STATIC), abs=1e-12)


def test_cheaper_than_the_cheapest_is_compared_with_that():
    own = noisy(0.6, 5, 9)
    assert above(own, STATIC).difference == pytest.approx(own.accuracy.mean() - STATIC[0].accuracy.mean())


def test_the_interval_is_paired_by_question():
    own = noisy(0.6, 47, 9)
    low, high = STATIC[0], STATIC[2]
    part = (own.tokens.mean() - low.tokens.mean()) / (high.tokens.mean() - low.tokens.mean())
    slope = (high.accuracy.mean() - low.accuracy.mean()) / (high.tokens.mean() - low.tokens.mean())
    differences = [
        a - ((1 - part) * a0 + part * a1) - slope * (t - ((1 - part) * t0 + part * t1))
        for a, t, a0, t0, a1, t1 in zip(
            own.accuracy, own.tokens, low.accuracy, low.tokens, high.accuracy, high.tokens, strict=True
        )
    ]
    expected = stats.ttest_1samp(differences, 0)
    found = above(own, STATIC)
    assert found.difference == pytest.approx(np.mean(differences))
    assert found.error == pytest.approx(stats.sem(differences))
    interval = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.p_value == pytest.approx(expected.pvalue)


def test_mixtures_of_static_lambdas_and_the_static_ones_themselves_are_not_above():
    for own in STATIC:
        assert above(own, STATIC).difference <= 1e-12
    half = [(a + b) / 2 for a, b in zip(STATIC[0][:3], STATIC[2][:3], strict=True)]
    found = above(Means(*half, STATIC[0].benchmark), STATIC)
    assert found.difference == pytest.approx(0, abs=1e-12) and found.tie


def test_benchmarks_of_any_size_weigh_the_same():
    large = {"a": means([0.2] * 90, 10.0), "b": means([0.5] * 90, 30.0)}
    small = {"a": means([0.6, 0.8], 30.0), "b": means([0.9, 0.9], 50.0), "c": means([1, 1], 1.0)}
    both = pooled([large, small])
    assert set(both) == {"a", "b"}
    assert both["a"].mean(both["a"].accuracy) == pytest.approx((0.2 + 0.7) / 2)
    assert both["a"].mean(both["a"].tokens) == pytest.approx(20)
    rng = np.random.default_rng(0)
    first, second = rng.random(30), rng.random(8)
    own = pooled([{"a": means(first, 1.0)}, {"a": means(second, 1.0)}])["a"]
    expected = math.sqrt(stats.sem(first) ** 2 + stats.sem(second) ** 2) / 2
    assert own.error(own.accuracy) == pytest.approx(expected)
    judged = own.judge(own.accuracy)
    reach = stats.t.ppf(0.975, 30 + 8 - 2) * expected
    assert (judged.low, judged.high) == pytest.approx((judged.difference - reach, judged.difference + reach))


def test_prefilled_tokens_count_as_much_as_they_are_told_to():
    own = noisy(0.6, 40, 9, prefilled=30)
    dearer = own._replace(tokens=own.tokens + 0.5 * own.prefilled)
    assert above(own, STATIC, prefill_weight=0.5).difference == pytest.approx(above(dearer, STATIC).difference)


def test_break_even_is_where_the_gain_is_no_longer_sure():
    own = noisy(0.72, 40, 9, prefilled=20)
    weight = break_even(own, STATIC)
    assert 0.01 < weight < MOST_WEIGHT
    assert (
        above(own, STATIC, prefill_weight=weight - 1e-6).low > 0 >= above(own, STATIC, prefill_weight=weight + 1e-6).low
    )
    assert break_even(noisy(0.3, 40, 9, prefilled=20), STATIC) is None
    assert break_even(noisy(0.72, 40, 9), STATIC) == math.inf
    assert break_even(noisy(0.99, 40, 9, prefilled=0.1), STATIC) == math.inf


def sample(setting, question, index, correct, tokens):
    return Sample(
        benchmark="made", question=question, setting=setting, lam=None, index=index, seed=0, text="", tokens=tokens,
        finish="stop", thinking="none", answer="", correct=correct, seconds=0.0,
    )  # fmt: skip


def test_question_means_are_over_the_questions_that_all_settings_answered():
    samples = [
        sample("0", "b", 0, True, 10), sample("0", "b", 1, False, 20), sample("0", "a", 0, True, 4),
        sample("1", "a", 0, False, 8), sample("1", "b", 0, True, 30), sample("1", "c", 0, True, 99),
    ]  # fmt: skip
    found = question_means(samples, {("1", "b"): 7.0})
    assert found["0"].accuracy.tolist() == [1, 0.5] and found["0"].tokens.tolist() == [4, 15]
    assert found["1"].accuracy.tolist() == [0, 1] and found["1"].prefilled.tolist() == [0, 7]
    with pytest.raises(MullError, match="no two questions"):
        question_means(samples[2:4], {})
    with pytest.raises(MullError, match="no two questions"):
        question_means([], {})


def made_table(**options):
    found = {"0": STATIC[0], "0.6": STATIC[2], "1": STATIC[3], "conf": noisy(0.75, 45, 7, prefilled=10)}
    found["budget"] = noisy(0.5, 50, 8)
    kinds = {"0": "static", "0.6": "static", "1": "static", "conf": "estimator", "budget": "budget"}
    return found, table("made", found, kinds, **options)


def test_every_row_of_the_table():
    seconds = {"0": 1.0, "0.6": 2.0, "1": 3.0, "conf": 1.2}
    found, shown = made_table(seconds=seconds, lams={"conf": 0.4}, prefill_weight=0.2)
    assert [row.label for row in shown.rows] == list(found) and shown.questions == 40
    own, conf, thinking = shown.row("conf"), found["conf"], found["1"]
    charged = conf.tokens + 0.2 * 10
    assert own.accuracy == pytest.approx(conf.accuracy.mean()) and own.tokens == pytest.approx(charged.mean())
    assert own.accuracy_error == pytest.approx(stats.sem(conf.accuracy))
    assert own.tokens_error == pytest.approx(stats.sem(charged)) and own.prefilled == 10
    static = [found[label] for label in ("0", "0.6", "1")]
    assert own.gain == above(conf, static, prefill_weight=0.2)
    assert own.gain_over_budgets == above(conf, [found["budget"], thinking], prefill_weight=0.2)
    paired = stats.ttest_rel(conf.accuracy, thinking.accuracy).confidence_interval()
    assert (own.over_thinking.low, own.over_thinking.high) == pytest.approx((paired.low, paired.high))
    fewer = stats.ttest_rel(charged, thinking.tokens).confidence_interval()
    assert (own.tokens_over_thinking.low, own.tokens_over_thinking.high) == pytest.approx((fewer.low, fewer.high))
    right = [each.accuracy.mean() for each in static]
    needed = 1 + (conf.accuracy.mean() - right[0]) / (right[1] - right[0])
    assert own.speed_up == pytest.approx(needed / 1.2) and own.seconds == 1.2 and own.lam == 0.4
    assert shown.row("budget").seconds is None and shown.row("budget").speed_up is None


def test_no_speed_up_beyond_every_static_accuracy_and_no_table_without_thinking():
    found = {"0": STATIC[0], "1": STATIC[3], "conf": noisy(0.95, 45, 7)}
    kinds = {"0": "static", "1": "static", "conf": "estimator"}
    shown = table("made", found, kinds, seconds=dict.fromkeys(found, 1.0))
    assert shown.row("conf").speed_up is None and shown.row("conf").gain_over_budgets is None
    with pytest.raises(MullError, match="Thinking end"):
        table("made", found, {"0": "static", "conf": "estimator"})
