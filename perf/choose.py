"""How often the race of `mull choose` chooses well and how much it samples, simulated on finished sweeps.

    python perf/choose.py RUN [RUN …]           # folders of `mull demo` or `mull sweep`
    python perf/choose.py RUN --draws 200

Each draw resamples the questions with replacement and shuffles the samples of every question. Then, for every goal, the
race runs on it, and the choice is also made from the full grid of the draw. A pick is good if it meets the goal to
within one standard error and is at most one standard error (paired) behind the best setting that meets the goal. This
is judged by two sets of samples:

draw  the full grid of the same draw: shows what the race loses by sampling only a part
run   the original run: also shows what race and full grid lose because a draw has other questions

Point: good judged by the draw, or behind by at most the tolerance, a point of accuracy or 1 % of the tokens.
Even: the choice from as many responses as the race took, spread evenly over all λ and questions, none held out.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mull.analysis.choosing.choose import choose, value_difference
from mull.analysis.choosing.options import Goal, Option, measure
from mull.analysis.choosing.race import Outcome, race
from mull.analysis.choosing.tally import Tally
from mull.analysis.records import Sample
from mull.runs.store import RunStore

GOALS = [
    *(Goal(budget=budget) for budget in (30, 32, 36, 44, 60, 80, 100, 135, 170, 240)),
    *(Goal(budget=budget, quantile=0.95) for budget in (40, 100, 200, 320)),
    *(Goal(min_accuracy=floor) for floor in (0.75, 0.85, 0.95, 0.99)),
]


class Judge(NamedTuple):
    """The results of a set of samples for a goal: for each setting whether it is a good pick."""

    goal: Goal
    options: dict[str, Option]
    nearly: dict[str, bool]
    good: dict[str, bool]
    point: dict[str, bool]


class Draw(NamedTuple):
    """A resample of a run: its samples, and the other arguments of the race."""

    samples: list[Sample]
    lams: dict[str, float]
    questions: dict[str, str]
    k: int


def judge(samples: Sequence[Sample], goal: Goal) -> Judge:
    tally = Tally.of(samples, goal.budget)
    options = measure(samples, goal)
    value = [goal.value(o.accuracy.value, o.tokens.value) for o in options]
    feasible = [i for i, o in enumerate(options) if o.feasible]
    best = max(
        feasible,
        key=lambda i: (value[i], goal.second(options[i].accuracy.value, options[i].tokens.value)),
        default=None,
    )
    good, point = {}, {}
    for i, o in enumerate(options):
        behind = value[best] - value[i] if best is not None else -math.inf
        error = value_difference(tally, goal, best, i).error if best not in (None, i) else 0.0
        good[o.setting] = behind <= error + 1e-9
        point[o.setting] = behind <= max(error, goal.tolerance(options[best or 0].tokens.value)) + 1e-9
    return Judge(
        goal,
        {o.setting: o for o in options},
        {o.setting: o.slack.value >= -o.slack.error for o in options},
        good,
        point,
    )


def resampled(samples: Sequence[Sample], generator: np.random.Generator) -> Draw:
    """Questions with replacement, each under a new name; the samples are shuffled in the same way for every λ."""
    by_question: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_question[sample.question].append(sample)
    ids, k = sorted(by_question), 1 + max(sample.index for sample in samples)
    drawn, questions = [], {}
    for number, at in enumerate(generator.integers(len(ids), size=len(ids))):
        order, name = generator.permutation(k), f"{number:04d}"
        rows = by_question[ids[at]]
        questions[name] = rows[0].stratum
        drawn += [replace(row, question=name, index=int(order[row.index])) for row in rows]
    lams = {sample.setting: sample.lam or 0.0 for sample in samples}
    return Draw(drawn, lams, questions, k)


def run(draw: Draw, goal: Goal, seed: int) -> Outcome:
    record = {(s.setting, s.question, s.index): s for s in draw.samples}
    racing = race(draw.lams, draw.questions, draw.k, goal, seed)
    step = next(racing)
    while True:
        try:
            step = racing.send([record[ask] for ask in step.asks])
        except StopIteration as stop:
            return stop.value


def even(draw: Draw, responses: int) -> list[Sample]:
    """`responses` samples of the draw, spread as evenly as possible over settings and questions."""
    order = sorted(draw.samples, key=lambda s: (s.index, s.question, s.setting))
    return order[:responses]


def verdict(judge: Judge, pick: Option | None, *, point: bool = False) -> bool:
    """Whether a pick is good. No pick is good if no setting meets the goal by more than one standard error."""
    if pick is not None:
        return (judge.point if point else judge.good)[pick.setting] and judge.nearly[pick.setting]
    return not any(option.slack.value > option.slack.error for option in judge.options.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--draws", type=int, default=100)
    arguments = parser.parse_args()
    totals: list[np.ndarray] = []
    for folder in arguments.runs:
        with RunStore.open(folder) as store:
            samples = store.samples(texts=False)
        judges = [judge(samples, goal) for goal in GOALS]
        table_DGV = np.zeros((arguments.draws, len(GOALS), 8))
        picks: list[dict[str, int]] = [defaultdict(int) for _ in GOALS]
        generator = np.random.default_rng(0)
        for d in range(arguments.draws):
            draw = resampled(samples, generator)
            full_tokens = sum(sample.tokens for sample in draw.samples)
            for g, each in enumerate(judges):
                outcome = run(draw, each.goal, d)
                full = choose(draw.samples, each.goal, fresh=False)
                spent = sum(sample.tokens for sample in outcome.samples) / full_tokens
                pick = outcome.choice.pick
                share = outcome.asked / outcome.full
                by_draw = judge(draw.samples, each.goal)
                spread = choose(even(draw, outcome.asked), each.goal, fresh=False)
                table_DGV[d, g] = (
                    verdict(by_draw, pick), verdict(by_draw, pick, point=True), verdict(by_draw, spread.pick),
                    verdict(each, pick), verdict(each, full.pick), share, spent, len(outcome.measured),
                )  # fmt: skip
                picks[g][outcome.choice.pick.setting if outcome.choice.pick else "none"] += 1
        show(folder.name, judges, table_DGV, picks)
        totals.append(table_DGV)
    if len(totals) > 1:
        print(f"\nall runs: {summary(np.concatenate(totals))}")


def show(name: str, judges: list[Judge], table_DGV: np.ndarray, picks: list[dict[str, int]]) -> None:
    print(f"\n{name}, {len(table_DGV)} draws")
    print(f"{'good picks, %':43}{'race':>5}{'point':>6}{'even':>5}{'race':>5}{'grid':>5}{'responses':>10}{'tokens':>7}")
    print(f"{'judged by':43}{'draw':>5}{'draw':>6}{'draw':>5}{'run':>5}{'run':>5}{'% of the grid':>17}{'λ':>5}  picks")
    for g, each in enumerate(judges):
        mean_V = table_DGV[:, g].mean(axis=0)
        most = ", ".join(f"{s} {n}" for s, n in sorted(picks[g].items(), key=lambda item: -item[1])[:4])
        shares = "".join(f"{100 * share:5.0f}" for share in mean_V[:5])
        costs = f"{100 * mean_V[5]:10.1f}{100 * mean_V[6]:7.1f}{mean_V[7]:5.1f}"
        print(f"{each.goal.words():43}{shares}{costs}  {most}")
    print(f"all goals: {summary(table_DGV)}")


def summary(table_DGV: np.ndarray) -> str:
    mean_V = 100 * table_DGV.mean(axis=(0, 1))
    error_V = 100 * table_DGV.mean(axis=1).std(axis=0, ddof=1) / math.sqrt(len(table_DGV))
    race_d, point_d, even_d, race_r, grid_r, samples, tokens = (
        f"{m:.1f} ± {e:.1f}" for m, e in zip(mean_V[:7], error_V, strict=False)
    )
    most = 100 * table_DGV[:, :, 5].max()
    return (
        f"good in % judged by the draw: race {race_d}, to a point {point_d}, even {even_d}; by the run: race {race_r}, "
        f"full grid {grid_r}; responses {samples} % of the full grid (most {most:.1f}), tokens {tokens} %"
    )


if __name__ == "__main__":
    main()
