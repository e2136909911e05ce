"""The race on simulated pairs: it finds the choice of the whole grid with few samples, whatever the curves' shape."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from mull.analysis.choosing.choose import choose
from mull.analysis.choosing.options import Goal
from mull.analysis.choosing.race import Ask, race, split
from mull.analysis.records import Sample
from mull.analysis.tables import published
from mull.errors import MullError

GRID = {f"{i / 20:g}": i / 20 for i in range(21)}
QUESTIONS = {f"q{i:03d}": "easy" if i % 2 else "hard" for i in range(100)}


def curves(benchmark):
    """Accuracy, tokens and Think #R over λ: straight lines between the published points."""
    rows = sorted((r for r in published() if r.benchmark == benchmark and r.lam is not None), key=lambda r: r.lam or 0)
    lam = [row.lam for row in rows]
    return [lambda x, y=y: np.interp(x, lam, y) for y in zip(*[(r.mean_at_k, r.tokens, r.think_ratio) for r in rows])]  # noqa: B905


@cache
def draws(*seed):
    return np.random.default_rng(seed).random(3)


class Oracle:
    """Answers for any (λ, question, index): questions differ in difficulty, the answers of a question share luck."""

    def __init__(self, accuracy, tokens, think, seed=0):
        self.accuracy, self.tokens, self.think, self.seed = accuracy, tokens, think, seed
        self.asked: list[Ask] = []

    def __call__(self, ask):
        self.asked.append(ask)
        lam, question = GRID[ask.setting], int(ask.question[1:])
        hard = draws(self.seed, question)
        luck = draws(self.seed, question, ask.number, 7)
        return Sample(
            benchmark="toy", question=ask.question, stratum=QUESTIONS[ask.question], setting=ask.setting, lam=lam,
            index=ask.number, seed=0, text="", tokens=round(self.tokens(lam) * (0.6 + 0.8 * (hard[1] + luck[1]) / 2)),
            finish="stop", thinking="closed" if luck[2] < self.think(lam) else "none", answer="",
            correct=bool((hard[0] + luck[0]) / 2 < 0.5 + (self.accuracy(lam) - 0.5)), seconds=1.0,
        )  # fmt: skip


def finish(racing, oracle):
    step, steps = next(racing), []
    while True:
        steps.append(step)
        try:
            step = racing.send([oracle(ask) for ask in step.asks])
        except StopIteration as stop:
            return stop.value, steps


def test_it_finds_the_dip_in_tokens_that_follows_the_transition():
    """IFEval: at 1,600 tokens λ = 0 and 0.55 to 0.8 are feasible, and what lies between takes up to 6,492."""
    oracle = Oracle(*curves("ifeval"))
    outcome, _ = finish(race(GRID, QUESTIONS, 8, Goal(budget=1600)), oracle)
    assert outcome.choice.pick is not None
    assert outcome.choice.pick.lam in (0.6, 0.65, 0.7, 0.75, 0.8)
    assert outcome.asked < 0.25 * outcome.full
    assert outcome.asked == len(set(oracle.asked)) == len(oracle.asked), "nothing is asked for twice"
    assert len(outcome.measured) < len(GRID)


@pytest.mark.parametrize("goal", [Goal(budget=12000), Goal(budget=14500), Goal(min_accuracy=0.7)])
def test_it_chooses_about_as_the_whole_grid_does(goal):
    good = 0
    for seed in range(5):
        oracle = Oracle(*curves("aime25"), seed=seed)
        outcome, _ = finish(race(GRID, QUESTIONS, 8, goal, seed), oracle)
        everything = choose(
            [oracle(Ask(s, q, i)) for s in GRID for q in QUESTIONS for i in range(8)], goal, fresh=False
        )
        found = {option.setting: option for option in everything.options}
        assert outcome.choice.pick is not None and everything.pick is not None
        mine = found[outcome.choice.pick.setting]
        value = [goal.value(o.accuracy.value, o.tokens.value) for o in (everything.pick, mine)]
        error = mine.accuracy.error if goal.min_accuracy is None else mine.tokens.error
        good += mine.slack.value >= -mine.slack.error and value[0] - value[1] <= error
        assert outcome.asked < 0.3 * outcome.full
    assert good >= 4


def test_it_reports_on_questions_that_took_no_part():
    choosing, held = split(QUESTIONS)
    assert len(held) == 25 and set(choosing) | set(held) == set(QUESTIONS) and not set(choosing) & set(held)
    assert {QUESTIONS[question] for question in held} == {"easy", "hard"}
    outcome, steps = finish(race(GRID, QUESTIONS, 4, Goal(budget=12000)), Oracle(*curves("aime25")))
    assert {sample.question for sample in outcome.deciding} <= set(choosing)
    assert {ask.question for ask in steps[-1].asks} == set(held)
    assert all(ask.question in choosing for step in steps[:-1] for ask in step.asks)
    assert outcome.choice.pick is not None
    assert outcome.fresh[0].setting == outcome.choice.pick.setting
    assert (outcome.fresh[0].questions, outcome.fresh[0].samples) == (25, 100)


def test_the_same_records_lead_to_the_same_race():
    runs = [finish(race(GRID, QUESTIONS, 4, Goal(budget=12000)), Oracle(*curves("aime25"))) for _ in range(2)]
    assert runs[0][1] == runs[1][1]
    assert runs[0][0].choice.pick == runs[1][0].choice.pick


def test_a_budget_below_everything_ends_early():
    outcome, _ = finish(race(GRID, QUESTIONS, 8, Goal(budget=100)), Oracle(*curves("aime25")))
    assert outcome.choice.pick is None and outcome.choice.nearest is not None
    assert outcome.asked < 0.15 * outcome.full


def test_all_alike_is_a_tie_that_costs_little():
    flat = Oracle(lambda x: 0.6, lambda x: 100 + 100 * x, lambda x: 0.0)
    outcome, _ = finish(race(GRID, QUESTIONS, 8, Goal(budget=1000)), flat)
    assert outcome.choice.pick is not None and outcome.choice.pick.lam == 0
    assert all(rival.verdict == "tie" for rival in outcome.choice.rivals)


def test_small_races():
    oracle = Oracle(*curves("aime25"))
    outcome, _ = finish(race({"0.5": 0.5}, QUESTIONS, 1, Goal(budget=20000)), oracle)
    assert outcome.choice.pick is not None and outcome.choice.rivals == []
    few = dict(list(QUESTIONS.items())[:6])
    outcome, _ = finish(race({"0": 0.0, "1": 1.0}, few, 1, Goal(budget=1e6)), oracle)
    assert outcome.asked <= 12
    for lams, questions, k in (({}, QUESTIONS, 1), ({"0": 0.0}, {"q000": ""}, 1), ({"0": 0.0}, QUESTIONS, 0)):
        with pytest.raises(MullError, match="6 questions"):
            race(lams, questions, k, Goal(budget=1))
