"""A race: which samples to take next so that few of a full grid's settle the choice of λ.

Knows labels, λ, questions and records; neither engine nor store. `race` is a generator that yields `Step`s, the
samples it wants, is sent them back, and returns an `Outcome`. It decides by what it asked for alone, so that a run
that was broken off comes to the same decisions from the records it left.

First a few λ round the rise of Think #R and at both ends; then successive halving (Jamieson & Talwalkar 2016, arXiv
1502.07943): what cannot be the choice is dropped, at most half stay, and those are sampled twice as much, while a λ
between two measured ones joins as long as it might still be better. It stops when the choice is sure to meet the
goal and to lose no more than the tolerance. Every fourth question takes no part: the chosen λ is reported on those.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from mull.analysis.choosing.choose import Choice, certainty, choose, decide, value_difference, valued
from mull.analysis.choosing.options import ROUNDING, Goal, Option, measure
from mull.analysis.choosing.tally import Tally
from mull.analysis.records import Sample
from mull.errors import MullError

FIRST = 64
"""Responses per λ at the first look, at least."""
PROBES = 6
"""λ measured before the race."""
LOW = 0.2
"""The direct end is probed up to here: below the transition, λ ≤ 0.2 keeps answers short (Wu et al. 2025)."""
HOPELESS = 0.02
"""A λ that would be chosen in a smaller share of resamples is dropped."""
KEEP = 0.1
"""A λ that would be chosen in so large a share stays, even among the worse half."""
SURE = 0.95
SLACK = 0.1
"""A λ between two measured ones may take this share fewer tokens than both, or have so much less wrong."""
HELD_OUT = 4
"""Every so many-th question takes no part in choosing."""
FEWEST_QUESTIONS = 6


class Ask(NamedTuple):
    """One response that is wanted, the key of a sample on record."""

    setting: str
    question: str
    number: int
    """Which of the k samples of this question, `Sample.index`."""


class Step(NamedTuple):
    """What to sample next, and why, in words."""

    asks: list[Ask]
    why: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the race chose, what it cost, and how the choice does on questions that took no part in it."""

    choice: Choice
    """By the choosing questions, among all λ that were measured and not dropped."""
    dropped: Mapping[str, str]
    """λ that were measured and left behind: why, with the share of resamples that would have chosen it."""
    measured: Sequence[Option]
    """Every λ that was measured, dropped or not, on the choosing questions."""
    fresh: Sequence[Option]
    """The chosen λ and its closest rival on the questions held out, as far as there are any."""
    asked: int
    """Responses that were asked for."""
    full: int
    """Responses of the whole grid."""
    samples: Sequence[Sample]
    """All samples that were asked for."""
    deciding: Sequence[Sample]
    """Those that `choice` was made by."""


Race = Generator[Step, list[Sample], Outcome]
Steps = Generator[Step, list[Sample], None]


def race(lams: Mapping[str, float], questions: Mapping[str, str], k: int, goal: Goal, seed: int = 0) -> Race:
    """The race for `goal` among the settings of a grid.

    `lams`: label → λ of every candidate. `questions`: id → stratum. `k`: most samples per question. Raises
    `MullError`, at once, for fewer than 6 questions, k below 1, and no candidate.
    """
    if not lams or k < 1 or len(questions) < FEWEST_QUESTIONS:
        raise MullError(
            f"a race needs a λ, a sample and {FEWEST_QUESTIONS} questions, got {len(lams)}, {k} and {len(questions)}",
            "ask for more questions",
        )
    return _race(dict(sorted(lams.items(), key=lambda item: item[1])), questions, k, goal, seed)


def _race(lams: dict[str, float], questions: Mapping[str, str], k: int, goal: Goal, seed: int) -> Race:
    choosing, held = split(questions, seed)
    field = _Field(goal, lams, [(question, number) for number in range(k) for question in choosing], seed)
    yield from _probe(field)
    yield from _run(field)
    choice = field.choice()
    fresh = yield from _report(field, choice, [(question, number) for number in range(k) for question in held])
    return Outcome(
        choice=choice,
        dropped=field.dropped,
        measured=measure(field.of(field.measured), goal),
        fresh=fresh,
        asked=len(field.samples),
        full=len(lams) * len(questions) * k,
        samples=list(field.samples.values()),
        deciding=field.of(field.alive),
    )


def split(questions: Mapping[str, str], seed: int = 0) -> tuple[list[str], list[str]]:
    """The questions to choose by and those held out, both in an order that spreads every stratum evenly."""

    def shuffled(question: str) -> bytes:
        return hashlib.blake2b(f"{seed}/{question}".encode(), digest_size=8).digest()

    strata: dict[str, list[str]] = {}
    for question in sorted(questions, key=shuffled):
        strata.setdefault(questions[question], []).append(question)
    place = {q: ((i + 0.5) / len(each), shuffled(q)) for each in strata.values() for i, q in enumerate(each)}
    order = sorted(questions, key=place.__getitem__)
    held = order[HELD_OUT - 1 :: HELD_OUT]
    return [question for question in order if question not in set(held)], held


@dataclass
class _Field:
    """The candidates, what was sampled of them, and which are still in the race."""

    goal: Goal
    lams: dict[str, float]
    pairs: list[tuple[str, int]]
    """(question, index) in the order in which they are sampled, whole passes over the questions."""
    seed: int
    samples: dict[Ask, Sample] = field(default_factory=dict)
    alive: list[str] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)

    @property
    def rungs(self) -> list[int]:
        """Responses per λ after each round: all of them, a half, a quarter … down to `FIRST`."""
        sizes = [len(self.pairs)]
        while sizes[0] >= 2 * FIRST:
            sizes.insert(0, math.ceil(sizes[0] / 2))
        return sizes

    def sample(self, settings: Sequence[str], pairs: Sequence[tuple[str, int]], why: str) -> Steps:
        """Ask for what is missing of `pairs` for `settings`, which join the race."""
        asks = [Ask(s, *pair) for s in settings for pair in pairs if Ask(s, *pair) not in self.samples]
        self.alive = sorted({*self.alive, *settings}, key=self.lams.__getitem__)
        if asks:
            shown = ", ".join(settings)
            for sample in (yield Step(asks, f"{why}: λ = {shown}, {len(pairs)} responses each")):
                self.samples[Ask(*sample.key)] = sample

    @property
    def measured(self) -> list[str]:
        return [setting for setting in self.lams if setting in self.alive or setting in self.dropped]

    def of(self, settings: Sequence[str]) -> list[Sample]:
        asked, kept = set(self.pairs), set(settings)
        return [s for a, s in self.samples.items() if a.setting in kept and (a.question, a.number) in asked]

    def choice(self) -> Choice:
        return choose(self.of(self.alive), self.goal, fresh=False, seed=self.seed)

    def think_ratio(self, setting: str) -> float:
        rows = self.of([setting])
        return sum(sample.thinking == "closed" for sample in rows) / len(rows)


def _probe(field: _Field) -> Steps:
    """Both ends and the direct side, then halving the gap over which Think #R changes most (or the widest)."""
    labels, first = list(field.lams), field.rungs[0]
    pairs = field.pairs[:first]
    low = [label for label in labels if field.lams[label] <= LOW]
    start = [labels[0], *low[-1:], labels[-1]]
    yield from field.sample(list(dict.fromkeys(start)), pairs, "a first look")
    while len(field.alive) < min(PROBES, len(labels)):
        gaps = [
            (abs(field.think_ratio(b) - field.think_ratio(a)), field.lams[b] - field.lams[a], inner)
            for a, b in zip(field.alive, field.alive[1:], strict=False)
            if (inner := _between(field, a, b))
        ]
        if not gaps:
            return
        change, _, inner = max(gaps, key=lambda gap: gap[:2])
        if change < 0.25:
            _, _, inner = max(gaps, key=lambda gap: gap[1])
        yield from field.sample([inner], pairs, "looking for the transition")


def _run(field: _Field) -> Steps:
    """Round after round until the choice is sure or the best are sampled in full."""
    for number, size in enumerate(field.rungs):
        pairs = field.pairs[:size]
        yield from field.sample(list(field.alive), pairs, f"round {number + 1}")
        while joining := _promising(field):
            yield from field.sample(joining, pairs, "might be better")
        if _drop(field, cap=size < len(field.pairs)) and not _promising(field):
            return


def _drop(field: _Field, *, cap: bool) -> bool:
    """Drop what cannot be the choice, and all but the better half; returns whether the choice is sure."""
    tally = Tally.of(field.of(field.alive), field.goal.budget)
    share_S, confidence = _shares(tally, field)
    order = sorted(range(len(share_S)), key=lambda s: -share_S[s])
    stay = max(2, math.ceil(len(order) / 2)) if cap else len(order)
    options = measure(field.of(field.alive), field.goal)
    for place, s in enumerate(order):
        if place > 0 and (share_S[s] < HOPELESS or (place >= stay and share_S[s] < KEEP)):
            why = "behind" if options[s].feasible else "misses it"
            share = f"{100 * share_S[s]:.0f}" if share_S[s] >= 0.01 else "< 1"
            field.dropped[tally.settings[s]] = f"{why} ({share} %)"
    field.alive = [setting for setting in field.alive if setting not in field.dropped]
    return confidence >= SURE


def _shares(tally: Tally, field: _Field) -> tuple[np.ndarray, float]:
    """Share of resamples in which each setting [S] is the choice by the rule, and the choice's confidence.

    Where a resample has no feasible setting, the one that misses the constraint by least stands for the choice.
    """
    goal, settings = field.goal, range(len(tally.settings))
    drawn = tally.resample(seed=field.seed)
    error_SS = np.nan_to_num(
        [[value_difference(tally, goal, a, b).error if a != b else 0.0 for b in settings] for a in settings]
    )
    value_RS, feasible_RS = valued(drawn, goal)
    best_R = value_RS.argmax(axis=1)
    least_RS = value_RS.max(axis=1, keepdims=True) - error_SS[best_R] - ROUNDING
    close_RS = feasible_RS & (value_RS >= least_RS)
    second_RS = np.where(close_RS, goal.second(drawn.accuracy, drawn.tokens), -np.inf)
    slack_RS = np.nan_to_num(goal.slack(*drawn), nan=-np.inf)
    chosen_R = np.where(feasible_RS.any(axis=1), second_RS.argmax(axis=1), slack_RS.argmax(axis=1))
    share_S = np.bincount(chosen_R, minlength=len(settings)) / len(chosen_R)
    picked = decide(measure(field.of(field.alive), goal), goal, lambda a, b: error_SS[a, b])
    if picked is None:
        return share_S, float(np.mean(~feasible_RS.any(axis=1)))
    return share_S, certainty(drawn, goal, picked)[0]


def _promising(field: _Field) -> list[str]:
    """The λ not measured yet that might be the choice, judged by their measured neighbours: one per gap.

    Its accuracy may be a little above both, its tokens a little below both: no more is assumed of the curves.
    """
    options = {option.setting: option for option in measure(field.of(field.measured), field.goal)}
    feasible = [o for s, o in options.items() if s in field.alive and o.feasible]
    best = max((_value(field.goal, o) for o in feasible), default=-math.inf)
    found = []
    for a, b in zip(field.measured, field.measured[1:], strict=False):
        inner = _between(field, a, b)
        if inner and _hope(field.goal, options[a], options[b], best):
            found.append(inner)
    return found


def _hope(goal: Goal, a: Option, b: Option, best: float) -> bool:
    """Whether a setting between `a` and `b` may meet the goal and be better than `best` by more than the tolerance."""
    most = max(o.accuracy.value + np.nan_to_num(o.accuracy.error) for o in (a, b))
    accuracy = min(1.0, most + SLACK * (1 - min(most, 1.0)))
    least = min(a, b, key=lambda o: o.tokens.value)
    factor = 1 - SLACK - float(np.nan_to_num(least.tokens.error / least.tokens.value))
    tokens = least.tokens.value * factor
    # Cost and mean shrink together: the slack of a quantile is not a number of tokens.
    within = 1.0 if min(a.cost.value, b.cost.value) * factor <= (goal.budget or math.inf) else 0.0
    value = goal.value(accuracy, tokens)
    return goal.slack(accuracy, tokens, within) >= 0 and value > best + goal.tolerance(tokens)


def _value(goal: Goal, option: Option) -> float:
    return goal.value(option.accuracy.value, option.tokens.value)


def _between(field: _Field, a: str, b: str) -> str | None:
    """The candidate nearest to the middle between two neighbours, if there is any."""
    low, high = field.lams[a], field.lams[b]
    inner = [label for label, lam in field.lams.items() if low < lam < high]
    return min(inner, key=lambda label: abs(field.lams[label] - (low + high) / 2), default=None)


def _report(field: _Field, choice: Choice, pairs: list[tuple[str, int]]) -> Generator[Step, list[Sample], list[Option]]:
    """The choice and its closest rival on questions that took no part."""
    best = choice.pick or choice.nearest
    assert best is not None
    shown = [best.setting, *(rival.setting for rival in choice.rivals[:1])]
    yield from field.sample(shown, pairs, "on the questions held out")
    held = set(pairs)
    rows = [s for a, s in field.samples.items() if a.setting in shown and (a.question, a.number) in held]
    found = {option.setting: option for option in measure(rows, field.goal)}
    return [found[setting] for setting in shown if setting in found]
