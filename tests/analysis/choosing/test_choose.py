"""Choosing by a budget or a floor: disconnected feasible sets, ties, quantiles, nothing feasible, one λ only."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mull.analysis.choosing.choose import choose, decide
from mull.analysis.choosing.options import Goal, Option, measure
from mull.analysis.metrics import Estimate
from mull.analysis.tables import published
from mull.errors import MullError

NAN = math.nan


def table(benchmark, goal):
    """The published rows with a λ as options, which have no errors."""
    rows = [row for row in published() if row.benchmark == benchmark and row.lam is not None]
    return [
        Option(
            setting=f"{row.lam:g}",
            lam=row.lam,
            accuracy=Estimate(row.mean_at_k, NAN),
            tokens=Estimate(row.tokens, NAN),
            cost=Estimate(row.tokens, NAN),
            slack=Estimate(goal.slack(row.mean_at_k, row.tokens, NAN), NAN),
        )
        for row in sorted((row for row in rows if row.lam is not None), key=lambda row: row.lam or 0.0)
    ]


def pick(options, goal, error=0.0):
    found = decide(options, goal, lambda a, b: error)
    return None if found is None else options[found].setting


def run(sample, rows):
    """Samples of {λ: [(questions' correct, tokens) …]}, one question each."""
    return [
        sample(f"q{q:02d}", lam, correct=bool(right), tokens=int(tokens))
        for lam, answers in rows.items()
        for q, (right, tokens) in enumerate(answers)
    ]


def test_a_budget_may_leave_pieces_of_the_grid(sample):
    """IFEval of Qwen3-4B as published: tokens 1174 → 6492 → 1445 → 2091."""
    goal = Goal(budget=1500)
    options = table("ifeval", goal)
    assert [o.setting for o in options if o.feasible] == ["0", "0.6"]
    assert pick(options, goal) == "0.6"
    assert pick(table("ifeval", Goal(budget=1400)), Goal(budget=1400)) == "0"
    assert pick(table("ifeval", Goal(budget=1600)), Goal(budget=1600)) == "0.8"
    assert pick(table("ifeval", Goal(budget=1000)), Goal(budget=1000)) is None
    assert pick(table("ifeval", Goal(min_accuracy=0.8)), Goal(min_accuracy=0.8)) == "0"
    assert pick(table("aime25", Goal(min_accuracy=0.7)), Goal(min_accuracy=0.7)) == "0.6"
    samples = run(sample, {lam: [(1, tokens)] * 12 for lam, tokens in ((0.0, 10), (0.5, 90), (0.6, 20), (0.8, 25))})
    assert choose(samples, Goal(budget=30)).feasible_runs == [["0"], ["0.6", "0.8"]]


def test_nothing_right_is_no_choice(sample):
    samples = run(sample, {0.0: [(0, 10)] * 12, 0.5: [(0, 20)] * 12})
    for goal in (Goal(budget=30), Goal(min_accuracy=0.0)):
        found = choose(samples, goal)
        assert found.pick is None and found.nothing_right and found.nearest is not None
    assert not choose(run(sample, {0.0: [(1, 10)] * 12}), Goal(budget=5)).nothing_right


def test_ties_are_called_so_and_go_to_fewer_tokens(sample):
    generator = np.random.default_rng(0)
    right = generator.random(80) < 0.8
    other = right.copy()
    other[0] = ~other[0]  # one question more or less: well within the error
    better = max((right, other), key=sum)
    worse = min((right, other), key=sum)
    far = np.zeros(80, bool)
    rows = {0.2: [(r, 5) for r in far], 0.5: [(r, 20) for r in worse], 0.8: [(r, 30) for r in better]}
    found = choose(run(sample, rows), Goal(budget=50))
    assert found.pick is not None and found.pick.setting == "0.5"
    assert [(rival.setting, rival.verdict) for rival in found.rivals] == [("0.8", "tie"), ("0.2", "beaten")]
    assert found.rivals[0].tokens.difference == -10
    assert found.loss == pytest.approx(1 / 80, abs=0.01)


def test_more_accurate_by_more_than_an_error_is_taken_though_dearer(sample):
    rows = {0.5: [(q % 5 != 0, 20) for q in range(100)], 0.8: [(q % 20 != 0, 30) for q in range(100)]}
    found = choose(run(sample, rows), Goal(budget=50))
    assert found.pick is not None and found.pick.setting == "0.8"
    assert found.rivals[0].verdict == "beaten"
    assert found.confidence > 0.99
    assert found.pick.chance == 1.0, "every response takes as many tokens"


def test_a_quantile_bounds_the_share_above_the_budget(sample):
    """95 of 100 within the budget is enough for 0.95, one fewer is not, whatever the mean."""
    for above, kept in ((5, True), (6, False)):
        samples = run(sample, {0.5: [(1, 1000 if q < above else 10) for q in range(100)]})
        found = choose(samples, Goal(budget=50, quantile=0.95))
        assert (found.pick is not None) == kept
        option = found.options[0]
        assert (option.cost.value <= 50) == kept
        assert 0.2 < option.chance < 0.8, "so near the limit nothing is sure"
        assert choose(samples, Goal(budget=50)).pick is None, "the mean is above 50"


def test_no_response_above_the_budget_is_not_certainty(sample):
    few = choose(run(sample, {0.5: [(1, 10)] * 12}), Goal(budget=50, quantile=0.95))
    many = choose(run(sample, {0.5: [(1, 10)] * 400}), Goal(budget=50, quantile=0.95))
    assert few.options[0].slack.error == pytest.approx(1 / 12)
    assert 0.6 < few.options[0].chance < 0.9 < many.options[0].chance


def test_a_floor_takes_the_fewest_tokens_above_it(sample):
    rows = {
        0.0: [(q % 2, 10) for q in range(40)],
        0.5: [(q % 10 != 0, 60) for q in range(40)],
        1.0: [(1, 90)] * 40,
    }
    found = choose(run(sample, rows), Goal(min_accuracy=0.8))
    assert found.pick is not None and found.pick.setting == "0.5"
    assert [rival.setting for rival in found.rivals] == ["1"]
    assert found.rivals[0].verdict == "beaten"
    nothing = choose(run(sample, {0.0: rows[0.0], 0.5: rows[0.5]}), Goal(min_accuracy=0.99))
    assert nothing.pick is None and nothing.nearest is not None and nothing.nearest.setting == "0.5"


def test_nothing_feasible_names_the_nearest(sample):
    found = choose(run(sample, {0.0: [(0, 40)] * 10, 0.5: [(1, 30)] * 10}), Goal(budget=20))
    assert found.pick is None and found.nearest is not None
    assert found.nearest.setting == "0.5"
    assert found.nearest.slack.value == -10
    assert found.feasible_runs == []


def test_one_lambda_and_one_question(sample):
    one = choose(run(sample, {0.5: [(q % 2, 30 + q) for q in range(20)]}), Goal(budget=60))
    assert one.pick is not None and one.rivals == [] and one.loss == 0
    lone = choose(run(sample, {0.5: [(1, 30)], 0.8: [(1, 40)]}), Goal(budget=60))
    assert lone.pick is not None and lone.pick.setting == "0.5"
    assert math.isnan(lone.pick.chance) and lone.rivals[0].verdict == "tie"
    assert lone.fresh is None


def test_a_setting_without_lambda_may_be_chosen(sample):
    samples = run(sample, {0.5: [(0, 30)] * 20, None: [(1, 30)] * 20})
    found = choose(samples, Goal(budget=60))
    assert found.pick is not None and (found.pick.setting, found.pick.lam) == ("TA", None)


def test_fresh_figures_come_from_questions_left_out(sample):
    """Where λ differ by luck alone, the best looks better than it is; on fresh questions it does not."""
    generator = np.random.default_rng(1)
    rows = {lam / 20: [(right, 30) for right in generator.random(60) < 0.5] for lam in range(21)}
    found = choose(run(sample, rows), Goal(budget=60))
    assert found.pick is not None and found.fresh is not None
    assert max(o.accuracy.value for o in found.options) > 0.58
    assert found.fresh[0].value < max(o.accuracy.value for o in found.options)
    assert found.fresh[1].value == 30


@pytest.mark.parametrize(
    ("goal", "message"),
    [
        ({}, "either --budget or --min-accuracy"),
        ({"budget": 10, "min_accuracy": 0.5}, "either --budget or --min-accuracy"),
        ({"budget": 0}, "must be positive"),
        ({"budget": NAN}, "must be positive"),
        ({"min_accuracy": 80}, r"min-accuracy must lie in \[0, 1\], got 80"),
        ({"min_accuracy": 0.5, "quantile": 0.9}, "a quantile belongs to a budget"),
        ({"budget": 10, "quantile": 95}, r"quantile must lie in \(0, 1\), got 95"),
    ],
)
def test_goals_that_make_no_sense_are_refused(goal, message):
    with pytest.raises(MullError, match=message):
        Goal(**goal)


def test_no_samples_and_weights_of_other_benchmarks_are_refused(sample):
    with pytest.raises(MullError, match="no samples"):
        choose([], Goal(budget=1))
    with pytest.raises(MullError, match=r"'aim', which is no benchmark of the samples. Did you mean 'aime'?"):
        choose([sample(), sample(benchmark="aime")], Goal(budget=1, weights={"aim": 2}))
    with pytest.raises(MullError, match="the weight of aime must be positive and finite, got 0"):
        Goal(budget=1, weights={"aime": 0})


shares = st.floats(0, 1)
counts = st.floats(1, 1e5)


@st.composite
def some_options(draw, goal):
    points = draw(st.lists(st.tuples(shares, counts, st.floats(0, 0.1), st.floats(0, 100)), min_size=1, max_size=12))
    return [
        Option(
            setting=str(i),
            lam=i / 20,
            accuracy=Estimate(a, ea),
            tokens=Estimate(t, et),
            cost=Estimate(t, et),
            slack=Estimate(goal.slack(a, t, NAN), 0.0),
        )
        for i, (a, t, ea, et) in enumerate(points)
    ]


goals = st.one_of(counts.map(lambda b: Goal(budget=b)), shares.map(lambda f: Goal(min_accuracy=f)))


@given(st.data(), goals, st.floats(0, 0.2))
def test_the_rule_holds_for_any_options(data, goal, error):
    options = data.draw(some_options(goal))
    found = decide(options, goal, lambda a, b: error)
    feasible = [o for o in options if o.feasible]
    if found is None:
        assert not feasible
        return
    chosen = options[found]
    value = [goal.value(o.accuracy.value, o.tokens.value) for o in feasible]
    own = goal.value(chosen.accuracy.value, chosen.tokens.value)
    assert chosen.feasible
    assert max(value) - own <= error + 1e-8
    second = goal.second(chosen.accuracy.value, chosen.tokens.value)
    for o, v in zip(feasible, value, strict=True):
        if max(value) - v <= error:
            assert goal.second(o.accuracy.value, o.tokens.value) <= second, "a close one is better on the other scale"


@given(st.data(), st.floats(1, 1e5), st.floats(1, 1e5))
def test_a_larger_budget_never_costs_accuracy(data, a, b):
    small, large = sorted((a, b))
    options = data.draw(some_options(Goal(budget=small)))
    found = []
    for budget in (small, large):
        goal = Goal(budget=budget)
        anew = [
            Option(
                setting=o.setting,
                lam=o.lam,
                accuracy=o.accuracy,
                tokens=o.tokens,
                cost=o.cost,
                slack=Estimate(goal.slack(o.accuracy.value, o.tokens.value, NAN), 0.0),
            )
            for o in options
        ]
        chosen = decide(anew, goal, lambda a, b: 0.0)
        found.append(-1.0 if chosen is None else options[chosen].accuracy.value)
    assert found[0] <= found[1] + 1e-9


@given(st.permutations(range(6)))
def test_the_order_of_the_samples_does_not_matter(order):
    from mull.analysis.records import Sample

    def make(q, lam):
        return Sample(
            benchmark="toy", question=f"q{q}", setting=f"{lam:g}", lam=lam, index=0, seed=0, text="",
            tokens=int(10 + 50 * lam + q), finish="stop", thinking="none", answer="1", correct=q % 3 > 0 or lam > 0.5,
            seconds=1.0,
        )  # fmt: skip

    samples = [make(q, lam) for q in order for lam in (0.0, 0.6, 1.0)]
    goal = Goal(budget=70)
    expected = [make(q, lam) for lam in (0.0, 0.6, 1.0) for q in range(6)]
    assert choose(samples, goal) == choose(expected, goal) or repr(choose(samples, goal)) == repr(
        choose(expected, goal)
    )
    assert [o.setting for o in measure(samples, goal)] == ["0", "0.6", "1"]
