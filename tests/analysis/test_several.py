"""Samples of several benchmarks: averages that give each the same weight, intervals of independent benchmarks."""

import math

import numpy as np
import pytest

from mull.analysis.choosing.choose import choose
from mull.analysis.choosing.options import Goal, measure
from mull.analysis.choosing.race import race
from mull.analysis.choosing.tally import Tally
from mull.analysis.choosing.worth import what_is_open
from mull.analysis.comparable import comparable
from mull.analysis.frontier import non_dominated, points_of
from mull.analysis.metrics import KINDS, bootstrap, metrics
from mull.analysis.paired import compare, paired_difference, stratified_mean, student
from mull.analysis.records import by_benchmark, of_every_benchmark
from mull.analysis.stages import stages_of_samples
from mull.errors import MullError

SIZES = {"large": 60, "small": 12}
LAMS = (0.0, 0.25, 0.5, 0.75, 1.0)


@pytest.fixture
def swept(sample):
    """Two benchmarks of different sizes: on the small one thinking begins later, costs more and helps less."""
    random = np.random.default_rng(1)
    rows = []
    for name, size in SIZES.items():
        rise, gain = (0.4, 0.5) if name == "large" else (0.6, 0.2)
        for q in range(size):
            easy = random.random()
            for lam in LAMS:
                thinks = 1 / (1 + math.exp(-20 * (lam - rise)))
                for index in range(2):
                    rows.append(
                        sample(
                            f"{name}/q{q}",
                            lam,
                            benchmark=name,
                            index=index,
                            correct=bool(random.random() < 0.3 * easy + gain * lam + 0.1),
                            tokens=int(50 + (300 if name == "small" else 100) * lam + random.integers(40)),
                            thinking="closed" if random.random() < thinks else "none",
                        )
                    )
    return rows


def value(samples, setting, benchmark, what=lambda s: s.correct):
    return np.mean([what(s) for s in samples if s.setting == setting and s.benchmark == benchmark])


def question_means(samples, setting, benchmark):
    """[Q], sorted by question."""
    own: dict[str, list[bool]] = {}
    for s in samples:
        if s.setting == setting and s.benchmark == benchmark:
            own.setdefault(s.question, []).append(s.correct)
    return np.array([np.mean(own[q]) for q in sorted(own)])


def resampled(values_of, resamples=20_000):
    """The spread of the mean over benchmarks, the questions of each drawn with replacement."""
    total = sum(bootstrap(len(v), resamples, seed) @ v / len(v) for seed, v in enumerate(values_of))
    return np.std(total / len(values_of))


def test_the_average_gives_each_benchmark_the_same_weight(swept):
    for m in metrics(swept):
        parts = [value(swept, m.setting, name) for name in SIZES]
        assert m.mean_at_k.value == pytest.approx(np.mean(parts))
        assert m.tokens.value == pytest.approx(np.mean([value(swept, m.setting, n, lambda s: s.tokens) for n in SIZES]))
        assert (m.questions, m.samples, m.k) == (72, 144, 2)
        assert sum(m.thinking[kind].value for kind in KINDS) == pytest.approx(1)
        assert m.think_ratio == m.thinking["closed"]
        pooled = np.mean([s.correct for s in swept if s.setting == m.setting])
        assert abs(m.mean_at_k.value - pooled) > 1e-3, "the pooled mean is that of the large benchmark"


def test_its_error_is_that_of_a_bootstrap_within_each_benchmark(swept):
    for m in metrics(swept):
        spread = resampled([question_means(swept, m.setting, name) for name in SIZES])
        assert m.mean_at_k.error == pytest.approx(spread, rel=0.06)  # n − 1 in place of n is 4 % with 12 questions


def test_one_benchmark_is_what_it_was(swept):
    for name, own in by_benchmark(swept).items():
        for m in metrics(own):
            assert (m.questions, m.samples) == (SIZES[name], 2 * SIZES[name])
            assert m.mean_at_k.value == pytest.approx(value(swept, m.setting, name))


def test_a_setting_that_lacks_a_benchmark_has_no_average(swept):
    part = [s for s in swept if s.setting != "0.5" or s.benchmark == "large"]
    assert [m.setting for m in metrics(part)] == ["0", "0.25", "0.75", "1"]
    assert {s.setting for s in of_every_benchmark(part)} == {"0", "0.25", "0.75", "1"}
    assert of_every_benchmark([s for s in swept if s.benchmark == "large"], ["large", "small"]) == []
    assert [c.setting for c in compare(part, [("0", "1"), ("0.5", "1")])] == ["0"]
    with pytest.raises(MullError, match="share no question"):
        paired_difference(part, "0.5", "1")


def test_differences_are_paired_within_each_benchmark(swept):
    found = paired_difference(swept, "1", "0")
    differences = [question_means(swept, "1", name) - question_means(swept, "0", name) for name in SIZES]
    assert found.difference == pytest.approx(np.mean([d.mean() for d in differences]))
    assert found.error == pytest.approx(resampled(differences), rel=0.06)
    assert found.questions == 72
    variances = [d.var(ddof=1) / d.size / 4 for d in differences]
    freedom = sum(variances) ** 2 / sum(v**2 / (d.size - 1) for v, d in zip(variances, differences, strict=True))
    assert found.freedom == pytest.approx(freedom) and 11 < freedom < 70
    again = student(found.difference, found.error, round(freedom) + 1, share=True)
    assert (found.low, found.high) == pytest.approx((again.low, again.high), rel=0.01)
    wider = found.corrected(5)
    assert wider.low < found.low and wider.freedom == found.freedom


def test_the_order_of_samples_counts_for_nothing(swept):
    assert paired_difference(swept[::-1], "1", "0") == paired_difference(swept, "1", "0")
    assert [m.mean_at_k for m in metrics(swept[::-1])] == [m.mean_at_k for m in metrics(swept)]


def test_equal_benchmarks_have_the_difference_of_one():
    own = np.random.default_rng(0).normal(size=30)
    one, two = stratified_mean([own]), stratified_mean([own, own])
    assert two.difference == pytest.approx(one.difference) and two.error == pytest.approx(one.error / math.sqrt(2))
    assert two.freedom == pytest.approx(58) and one.freedom is None
    assert stratified_mean([own, own + 1], [3, 1]).difference == pytest.approx(own.mean() + 0.25)


def test_where_no_question_differs_the_smallest_benchmark_says_how_sure_that_is():
    alike, one = stratified_mean([np.zeros(50), np.zeros(10)], share=True), stratified_mean([np.zeros(10)], share=True)
    assert (alike.low, alike.high) == (one.low, one.high) and alike.alike and alike.questions == 60
    assert math.isnan(stratified_mean([np.zeros(50), np.zeros(1)]).low)


def test_stages_are_those_of_the_average(swept):
    found, ratio = stages_of_samples(swept), {m.setting: m.think_ratio.value for m in metrics(swept)}
    repeated = [s for s in swept for _ in range(1 if s.benchmark == "large" else 5)]  # 60 questions each
    assert found.grid == stages_of_samples(repeated).grid
    assert found.fit is not None and 0.4 < found.fit.midpoint < 0.6
    large = stages_of_samples([s for s in swept if s.benchmark == "large"])
    assert large.fit is not None and large.fit.midpoint < found.fit.midpoint - 0.03, "not that of the larger one"
    assert ratio["0.5"] == pytest.approx(
        np.mean([value(swept, "0.5", name, lambda s: s.thinking == "closed") for name in SIZES])
    )
    if found.intervals:
        low, high = found.intervals["midpoint"]
        assert low < found.fit.midpoint < high


def test_the_frontier_is_that_of_the_average(swept):
    found = non_dominated(points_of(metrics(swept)), swept)
    assert next(p.setting for p in found.points) == "0"


def test_weights_decide_the_choice(sample):
    """λ = 0 is right on the one benchmark, λ = 1 on the other."""
    rows = [
        sample(f"{name}/q{q}", lam, benchmark=name, correct=(lam == 1) == (name == "b") or q < 2, tokens=10)
        for name in "ab"
        for q in range(20)
        for lam in (0.0, 1.0)
    ]

    def pick(**weights):
        found = choose(rows, Goal(budget=20, weights=weights or None))
        assert found.pick is not None
        return found.pick.setting, found.pick.accuracy.value, dict(found.shares)

    assert pick(a=3) == ("0", pytest.approx(0.75 + 0.25 * 0.1), {"a": 0.75, "b": 0.25})
    assert pick(b=3) == ("1", pytest.approx(0.75 + 0.25 * 0.1), {"a": 0.25, "b": 0.75})
    assert pick()[1:] == (pytest.approx(0.55), {"a": 0.5, "b": 0.5})
    assert choose([r for r in rows if r.benchmark == "a"], Goal(budget=20)).shares == {}


def test_options_are_weighted_means_and_the_quantile_is_that_of_the_mixture(swept):
    goal = Goal(budget=300, quantile=0.9, weights={"small": 3})
    for option in measure(swept, goal):
        parts = {
            name: [s.tokens for s in swept if s.setting == option.setting and s.benchmark == name] for name in SIZES
        }
        assert option.tokens.value == pytest.approx(0.25 * np.mean(parts["large"]) + 0.75 * np.mean(parts["small"]))
        within = {name: np.mean(np.array(own) <= option.cost.value) for name, own in parts.items()}
        assert 0.25 * within["large"] + 0.75 * within["small"] >= 0.9
        below = {name: np.mean(np.array(own) < option.cost.value) for name, own in parts.items()}
        assert 0.25 * below["large"] + 0.75 * below["small"] < 0.9
        assert option.cost.error > 0 and option.fewest == 12 and option.questions == 72


def test_resamples_draw_within_each_benchmark(swept):
    goal = Goal(budget=300, weights={"small": 3})
    drawn = Tally.of(swept, goal).resample(4000)
    for i, option in enumerate(measure(swept, goal)):
        assert np.mean(drawn.tokens[:, i]) == pytest.approx(option.tokens.value, rel=0.01)
        assert np.std(drawn.tokens[:, i]) == pytest.approx(option.tokens.error, rel=0.08)
        assert np.mean(drawn.accuracy[:, i]) == pytest.approx(option.accuracy.value, abs=0.01)


def test_what_more_samples_would_gain_is_that_of_the_weighted_means(swept):
    goal = Goal(budget=1e6)
    choice = choose(swept, goal, fresh=False)
    for each in what_is_open(swept, choice):
        if each.kind == "lead":
            assert choice.pick is not None
            found = paired_difference(swept, choice.pick.setting, each.rival)
            assert (each.gap, each.error) == (pytest.approx(found.difference), pytest.approx(found.error, rel=0.1))
            assert each.more_questions == pytest.approx(each.error / math.sqrt(2))


def test_folds_hold_questions_of_each_benchmark(swept):
    assert choose(swept, Goal(budget=300)).fresh is not None
    few = [s for s in swept if s.benchmark == "large" or s.question in {f"small/q{i}" for i in range(8)}]
    assert choose(few, Goal(budget=300)).fresh is None, "eight questions make no five folds of two"


def test_an_unfinished_setting_is_left_out_as_before(swept):
    part = [s for s in swept if s.setting != "1" or s.question != "small/q3"]
    found = comparable(part, 72, 2)
    assert found.left_out == ["1"] and found.questions == 72


def race_of(swept, goal, k=2):
    recorded = {s.key: s for s in swept}
    questions = {s.question: s.stratum for s in swept}
    racing = race({f"{lam:g}": lam for lam in LAMS}, questions, k, goal, 0, {s.question: s.benchmark for s in swept})
    steps = [next(racing)]
    while True:
        try:
            steps.append(racing.send([recorded[ask] for ask in steps[-1].asks]))
        except StopIteration as stop:
            return steps, stop.value


def test_a_race_measures_every_benchmark_from_its_first_step(swept):
    steps, outcome = race_of(swept, Goal(budget=200, weights={"small": 2}))
    first = {ask.question.partition("/")[0]: 0 for ask in steps[0].asks}
    for ask in steps[0].asks:
        first[ask.question.partition("/")[0]] += ask.setting == "0"
    assert set(first) == set(SIZES) and first["small"] >= 9, "all that are not held out"
    assert outcome.full == 72 * 2 * len(LAMS) and outcome.asked <= outcome.full
    assert outcome.choice.shares == {"large": pytest.approx(1 / 3), "small": pytest.approx(2 / 3)}
    assert all(option.fewest == 3 and option.questions == 18 for option in outcome.fresh), "every fourth of each"


def test_a_race_needs_questions_of_each_and_weights_of_these(swept):
    few = [s for s in swept if s.benchmark == "large" or s.question in {f"small/q{i}" for i in range(5)}]
    with pytest.raises(MullError, match="6 questions of each benchmark, got 5, 2 and 5"):
        race_of(few, Goal(budget=200))
    with pytest.raises(MullError, match="a weight is given for 'smal'"):
        race_of(swept, Goal(budget=200, weights={"smal": 2}))
