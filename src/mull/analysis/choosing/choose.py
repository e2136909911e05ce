"""Choosing a setting: the most accurate within a budget of tokens, or the cheapest above a floor of accuracy.

Chooses among measured settings and fits no curve: tokens are not monotone in λ (Wu et al. 2025, arXiv 2510.10977: on
IFEval 1174 → 6492 → 1445 → 2091), so the settings within a budget need not be neighbours.

The rule: take the settings whose estimate meets the constraint, and of these the best by the goal and all within one
standard error of it, paired by question. Choose the one of them with the fewest tokens, or, if the goal is few tokens,
with the highest accuracy (the one-standard-error rule of Breiman et al. 1984, Classification and Regression Trees,
section 3.4.3). A rival is a tie if the 95 % interval of the difference contains 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from mull.analysis.choosing.options import ROUNDING, Goal, Option, measure, option_of
from mull.analysis.choosing.tally import Resampled, Tally
from mull.analysis.metrics import Estimate
from mull.analysis.paired import PairedDifference
from mull.analysis.records import Sample, by_benchmark

FOLDS = 5


class Rival(NamedTuple):
    """Another feasible setting against the chosen one, differences as chosen − rival, paired by question.

    Intervals are 95 % for all rivals together (Bonferroni).
    """

    setting: str
    accuracy: PairedDifference
    """Fractions 0–1."""
    tokens: PairedDifference
    verdict: Literal["beaten", "tie", "better"]
    """By the goal's value: the choice beats the rival, they tie, or the rival is better."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The chosen setting, the settings to choose from, and how sure the choice is."""

    goal: Goal
    pick: Option | None
    """None if no setting meets the constraint, or if no response of any setting is right."""
    nearest: Option | None
    """If `pick` is None, the setting that misses the constraint by least."""
    options: Sequence[Option]
    """All settings, by λ."""
    rivals: Sequence[Rival]
    """The other feasible settings, closest first by the goal's value."""
    confidence: float
    """Share 0–1 of resamples of the questions in which the pick is feasible and loses at most `TOLERANCE`."""
    loss: float
    """Mean over resamples of how far the best feasible setting is ahead of the pick, in the unit of the goal's value
    (expected opportunity cost; Chick & Inoue 2001, Operations Research 49:732)."""
    fresh: tuple[Estimate, Estimate] | None = None
    """(accuracy, tokens) by cross-validation: on each fifth of the questions, of the choice made by the other four."""
    shares: Mapping[str, float] = field(default_factory=dict, hash=False)
    """Of several benchmarks the weight of each in accuracy and tokens, with the sum 1; empty where there is one."""

    @property
    def nothing_right(self) -> bool:
        """Whether no response of any setting is right, so that none can be called better than another."""
        return not any(option.accuracy.value > 0 for option in self.options)

    @property
    def feasible_runs(self) -> list[list[str]]:
        """The feasible settings, grouped into runs of neighbours along λ. Those without λ have no neighbours."""
        runs: list[list[str]] = []
        before = False
        for option in self.options:
            if option.feasible:
                joins = before and option.lam is not None
                runs = [*runs[:-1], [*runs[-1], option.setting]] if joins else [*runs, [option.setting]]
            before = option.feasible and option.lam is not None
        return runs


def choose(samples: Sequence[Sample], goal: Goal, *, fresh: bool = True, seed: int = 0) -> Choice:
    """The choice among all settings in `samples`; of several benchmarks every setting has some, and its accuracy and
    tokens are their means by the goal's weights.

    `fresh`: also estimate the choice on questions that were not used to choose (`Choice.fresh`). Raises
    `MullError` for no samples, and for a weight of a benchmark that they are not of.
    """
    tally = Tally.of(samples, goal)
    options = measure(samples, goal)
    picked = decide(options, goal, lambda a, b: value_difference(tally, goal, a, b).error)
    names = list(by_benchmark(samples))
    shares = dict(zip(names, map(float, goal.shares(names)), strict=True)) if len(names) > 1 else {}
    if picked is None or not tally.correct.any():
        nearest = max(options, key=lambda option: (option.slack.value, option.accuracy.value))
        return Choice(
            goal=goal,
            pick=None,
            nearest=nearest,
            options=options,
            rivals=[],
            confidence=math.nan,
            loss=math.nan,
            shares=shares,
        )
    confidence, loss = certainty(tally.resample(seed=seed), goal, picked)
    return Choice(
        goal=goal,
        pick=options[picked],
        nearest=None,
        options=options,
        rivals=_rivals(tally, options, goal, picked),
        confidence=confidence,
        loss=loss,
        fresh=_fresh(samples, goal) if fresh else None,
        shares=shares,
    )


def decide(options: Sequence[Option], goal: Goal, error: Callable[[int, int], float]) -> int | None:
    """Index of the chosen option, None if none is feasible; options with a NaN accuracy or tokens are left out.

    `error(a, b)`: standard error of the difference of the goal's value between two options; a NaN counts as 0.
    """
    feasible = [
        i
        for i, o in enumerate(options)
        if o.feasible and not (math.isnan(o.accuracy.value) or math.isnan(o.tokens.value))
    ]
    if not feasible:
        return None

    def order(i: int) -> tuple[float, float]:
        accuracy, tokens = options[i].accuracy.value, options[i].tokens.value
        return goal.value(accuracy, tokens), goal.second(accuracy, tokens)

    best = max(feasible, key=order)

    def close(i: int) -> bool:
        allowed = error(best, i) if i != best else 0.0
        return order(best)[0] - order(i)[0] <= (0.0 if math.isnan(allowed) else allowed) + ROUNDING

    return max(filter(close, feasible), key=lambda i: (order(i)[1], order(i)[0]))


def certainty(drawn: Resampled, goal: Goal, picked: int) -> tuple[float, float]:
    """`Choice.confidence` and `Choice.loss` of option `picked`."""
    value_RS, feasible_RS = valued(drawn, goal)
    own_R = goal.value(drawn.accuracy[:, picked], drawn.tokens[:, picked])
    ahead_R = np.maximum(value_RS.max(axis=1), own_R) - own_R
    tolerance = goal.tolerance(float(np.nanmean(drawn.tokens[:, picked])))
    return float(np.mean(feasible_RS[:, picked] & (ahead_R <= tolerance))), float(np.nanmean(ahead_R))


def valued(drawn: Resampled, goal: Goal) -> tuple[np.ndarray, np.ndarray]:
    """The goal's value of each setting in each resample, −inf if not feasible there, and whether it is: both [R, S]."""
    feasible_RS = goal.slack(*drawn) >= -ROUNDING  # NaN compares false
    return np.where(feasible_RS, goal.value(drawn.accuracy, drawn.tokens), -np.inf), feasible_RS


def value_difference(tally: Tally, goal: Goal, a: int, b: int) -> PairedDifference:
    """The goal's value of setting `a` − that of setting `b`."""
    if goal.min_accuracy is None:
        return tally.accuracy_difference(a, b)
    return tally.token_difference(b, a)


def _rivals(tally: Tally, options: Sequence[Option], goal: Goal, picked: int) -> list[Rival]:
    others = [i for i, option in enumerate(options) if option.feasible and i != picked]
    found: list[tuple[float, Rival]] = []
    for i in others:
        accuracy = tally.accuracy_difference(picked, i).corrected(len(others))
        tokens = tally.token_difference(picked, i).corrected(len(others))
        ahead = value_difference(tally, goal, picked, i).corrected(len(others))
        verdict = "tie" if ahead.tie else "beaten" if ahead.difference > 0 else "better"
        found.append((ahead.difference, Rival(options[i].setting, accuracy, tokens, verdict)))
    return [rival for _, rival in sorted(found, key=lambda each: each[0])]


def _fresh(samples: Sequence[Sample], goal: Goal) -> tuple[Estimate, Estimate] | None:
    """See `Choice.fresh`; None with fewer than two questions of a benchmark per fold, or if nothing is feasible without
    some fold."""
    fold: dict[str, int] = {}
    for own in by_benchmark(samples).values():
        questions = sorted({sample.question for sample in own})
        if len(questions) < 2 * FOLDS:
            return None
        fold |= {question: i % FOLDS for i, question in enumerate(questions)}
    kept: list[Sample] = []
    for left_out in range(FOLDS):
        tally_samples = [sample for sample in samples if fold[sample.question] != left_out]
        tally = Tally.of(tally_samples, goal)
        options = measure(tally_samples, goal)
        picked = decide(options, goal, lambda a, b, tally=tally: value_difference(tally, goal, a, b).error)
        if picked is None:
            return None
        chosen = options[picked].setting
        kept += [sample for sample in samples if fold[sample.question] == left_out and sample.setting == chosen]
    measured = option_of(kept, goal)
    return measured.accuracy, measured.tokens
