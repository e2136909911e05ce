"""A race chooses λ from a part of the samples of a full grid: it decides which samples to take next.

Knows labels, λ, questions and samples; neither engine nor store. `race` is a generator: it yields `Step`s with the
samples it wants, receives these samples, and returns an `Outcome`. It decides only by the samples it asked for, so
that a stopped race, started again, makes the same decisions from the recorded samples.

It first samples a few λ at both ends and around the rise of Think #R. Then comes successive halving (Jamieson &
Talwalkar 2016, arXiv 1502.07943): in each round it drops the λ that cannot be the choice, keeps about half and
samples those twice as much. A λ between two sampled ones joins if it might be better than they are. The race stops
when the choice is sure to meet the goal and to be within the tolerance of the best. Every fourth question is held out:
the chosen λ is reported on these questions.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import NamedTuple

import numpy as np

from mull.analysis.choosing.choose import Choice, certainty, choose, decide, value_difference, valued
from mull.analysis.choosing.options import ROUNDING, Goal, Option, measure
from mull.analysis.choosing.tally import Tally
from mull.analysis.records import Sample
from mull.errors import MullError
from mull.words import counted

FIRST = 64
"""Responses per λ in the first step, at least."""
PROBES = 6
"""Number of λ that are sampled before the rounds."""
LOW = 0.2
"""The first step also samples the largest λ up to this one: answers stay short at λ ≤ 0.2 (Wu et al. 2025)."""
HOPELESS = 0.02
"""A λ that is the choice in a smaller share of resamples is dropped."""
KEEP = 0.1
"""A λ that is the choice in at least this share of resamples stays, even in the worse half."""
SURE = 0.95
"""The race stops at this confidence in the choice (`Choice.confidence`)."""
SLACK = 0.1
"""Assumed of a λ between two measured ones: at most this share fewer tokens, or fewer wrong answers, than both."""
HELD_OUT = 4
"""Every fourth question is held out."""
FEWEST_QUESTIONS = 6


class Ask(NamedTuple):
    """A response that the race asks for; equal to the `Sample.key` of its sample."""

    setting: str
    question: str
    number: int
    """Which of the k samples of this question, `Sample.index`."""


class Step(NamedTuple):
    """What to sample next, and the reason in words."""

    asks: list[Ask]
    why: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the race chose, how many responses it took, and the chosen λ's results on the held-out questions."""

    choice: Choice
    """Made on the questions that were not held out, among the λ that were measured and not dropped."""
    dropped: Mapping[str, str]
    """Dropped λ → why, with the share of resamples in which it was the choice."""
    measured: Sequence[Option]
    """Every λ that was measured, dropped or not, on the questions that were not held out."""
    fresh: Sequence[Option]
    """The chosen λ and its closest rival, if there is one, on the held-out questions."""
    asked: int
    """Number of responses that the race asked for."""
    full: int
    """Number of responses of the full grid."""
    samples: Sequence[Sample]
    """All samples that the race asked for."""
    deciding: Sequence[Sample]
    """The samples from which `choice` was made."""


Race = Generator[Step, list[Sample], Outcome]
Steps = Generator[Step, list[Sample], None]


def race(
    lams: Mapping[str, float],
    questions: Mapping[str, str],
    k: int,
    goal: Goal,
    seed: int = 0,
    benchmarks: Mapping[str, str] | None = None,
) -> Race:
    """The race for `goal` among the settings of a grid.

    `lams`: label → λ of every candidate. `questions`: id → stratum. `k`: most samples per question. `benchmarks`: id →
    benchmark, where there are several. Raises `MullError`, at once, for fewer than 6 questions of a benchmark, k below
    1, no candidate, and a weight of a benchmark that is not asked.
    """
    parts: dict[str, dict[str, str]] = {}
    for question, stratum in questions.items():
        parts.setdefault((benchmarks or {}).get(question, ""), {})[question] = stratum
    if benchmarks:
        goal.shares(list(parts))
    least = min(map(len, parts.values()), default=0)
    if not lams or k < 1 or least < FEWEST_QUESTIONS:
        each = " of each benchmark" if len(parts) > 1 else ""
        raise MullError(
            f"a race needs a λ, a sample and {FEWEST_QUESTIONS} questions{each}, got {len(lams)}, {k} and {least}",
            "ask for more questions",
        )
    return _race(dict(sorted(lams.items(), key=lambda item: item[1])), list(parts.values()), k, goal, seed)


def _race(lams: dict[str, float], parts: Sequence[Mapping[str, str]], k: int, goal: Goal, seed: int) -> Race:
    halves = [split(part, seed) for part in parts]
    # A question of each benchmark in turn: a small one is soon measured as well as it can be.
    choosing, held = (
        [q for column in zip_longest(*lists) for q in column if q is not None] for lists in zip(*halves, strict=True)
    )
    state = _State(goal, lams, [(question, number) for number in range(k) for question in choosing], seed)
    yield from _probe(state)
    yield from _rounds(state)
    choice = state.choice()
    fresh = yield from _held_out(state, choice, [(question, number) for number in range(k) for question in held])
    return Outcome(
        choice=choice,
        dropped=state.dropped,
        measured=measure(state.of(state.measured), goal),
        fresh=fresh,
        asked=len(state.samples),
        full=len(lams) * sum(map(len, parts)) * k,
        samples=list(state.samples.values()),
        deciding=state.of(state.alive),
    )


def split(questions: Mapping[str, str], seed: int = 0) -> tuple[list[str], list[str]]:
    """(questions to choose by, questions held out), both in a random order that spreads every stratum evenly."""

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
class _State:
    """The candidates, their samples, and which of them are still in the race."""

    goal: Goal
    lams: dict[str, float]
    pairs: list[tuple[str, int]]
    """(question, index) in the order of sampling: index 0 of all questions first, then index 1, …"""
    seed: int
    samples: dict[Ask, Sample] = field(default_factory=dict)
    alive: list[str] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)

    @property
    def rungs(self) -> list[int]:
        """Responses per λ after each round, ascending: …, a quarter, a half, all; the first is at least `FIRST`."""
        sizes = [len(self.pairs)]
        while sizes[0] >= 2 * FIRST:
            sizes.insert(0, math.ceil(sizes[0] / 2))
        return sizes

    def sample(self, settings: Sequence[str], pairs: Sequence[tuple[str, int]], why: str) -> Steps:
        """Ask for the missing samples of `pairs` for `settings`, which join the race."""
        asks = [Ask(s, *pair) for s in settings for pair in pairs if Ask(s, *pair) not in self.samples]
        self.alive = sorted({*self.alive, *settings}, key=self.lams.__getitem__)
        if asks:
            each = f"{counted(len(pairs), 'response')}{' each' if len(settings) > 1 else ''}"
            for sample in (yield Step(asks, f"{why}: λ = {', '.join(settings)}, {each}")):
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


def _probe(state: _State) -> Steps:
    """Sample both ends and `LOW`, then the middle of the gap in which Think #R changes most, or of the widest gap."""
    labels, first = list(state.lams), state.rungs[0]
    pairs = state.pairs[:first]
    low = [label for label in labels if state.lams[label] <= LOW]
    start = [labels[0], *low[-1:], labels[-1]]
    yield from state.sample(list(dict.fromkeys(start)), pairs, "a first look")
    while len(state.alive) < min(PROBES, len(labels)):
        gaps = [
            (abs(state.think_ratio(b) - state.think_ratio(a)), state.lams[b] - state.lams[a], inner)
            for a, b in zip(state.alive, state.alive[1:], strict=False)
            if (inner := _middle(state, a, b))
        ]
        if not gaps:
            return
        change, _, inner = max(gaps, key=lambda gap: gap[:2])
        if change < 0.25:
            _, _, inner = max(gaps, key=lambda gap: gap[1])
        yield from state.sample([inner], pairs, "looking for the transition")


def _rounds(state: _State) -> Steps:
    """Rounds until the choice is sure or the remaining λ are fully sampled."""
    for number, size in enumerate(state.rungs):
        pairs = state.pairs[:size]
        yield from state.sample(list(state.alive), pairs, f"round {number + 1}")
        while candidates := _promising(state):
            yield from state.sample(candidates, pairs, "might be better")
        if _drop(state, cap=size < len(state.pairs)) and not _promising(state):
            return


def _drop(state: _State, *, cap: bool) -> bool:
    """Drop the λ that cannot be the choice and, with `cap`, the worse half; returns whether the choice is sure."""
    tally = Tally.of(state.of(state.alive), state.goal)
    share_S, confidence = _shares(tally, state)
    order = sorted(range(len(share_S)), key=lambda s: -share_S[s])
    stay = max(2, math.ceil(len(order) / 2)) if cap else len(order)
    options = measure(state.of(state.alive), state.goal)
    for place, s in enumerate(order):
        if place > 0 and (share_S[s] < HOPELESS or (place >= stay and share_S[s] < KEEP)):
            why = "behind" if options[s].feasible else "misses it"
            share = f"{100 * share_S[s]:.0f}" if share_S[s] >= 0.01 else "< 1"
            state.dropped[tally.settings[s]] = f"{why} ({share} %)"
    state.alive = [setting for setting in state.alive if setting not in state.dropped]
    return confidence >= SURE


def _shares(tally: Tally, state: _State) -> tuple[np.ndarray, float]:
    """The share of resamples in which each setting is the choice [S], and the confidence of the present choice.

    If a resample has no feasible setting, the setting that misses the constraint by least counts as its choice.
    """
    goal, settings = state.goal, range(len(tally.settings))
    drawn = tally.resample(seed=state.seed)
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
    picked = decide(measure(state.of(state.alive), goal), goal, lambda a, b: error_SS[a, b])
    if picked is None:
        return share_S, float(np.mean(~feasible_RS.any(axis=1)))
    return share_S, certainty(drawn, goal, picked)[0]


def _promising(state: _State) -> list[str]:
    """For each gap between neighbouring measured λ, its middle candidate, if that might be the choice.

    Its accuracy is assumed to be at most a little above both neighbours', its tokens at most a little below (`SLACK`).
    """
    options = {option.setting: option for option in measure(state.of(state.measured), state.goal)}
    feasible = [o for s, o in options.items() if s in state.alive and o.feasible]
    best = max((_value_of(state.goal, o) for o in feasible), default=-math.inf)
    found = []
    for a, b in zip(state.measured, state.measured[1:], strict=False):
        inner = _middle(state, a, b)
        if inner and _may_be_better(state.goal, options[a], options[b], best):
            found.append(inner)
    return found


def _may_be_better(goal: Goal, a: Option, b: Option, best: float) -> bool:
    """Whether a λ between `a` and `b` may meet the goal and be better than `best` by more than the tolerance."""
    most = max(o.accuracy.value + np.nan_to_num(o.accuracy.error) for o in (a, b))
    accuracy = min(1.0, most + SLACK * (1 - min(most, 1.0)))
    least = min(a, b, key=lambda o: o.tokens.value)
    factor = 1 - SLACK - float(np.nan_to_num(least.tokens.error / least.tokens.value))
    tokens = least.tokens.value * factor
    # For a goal on a quantile, assume that it shrinks by the same factor as the mean.
    within = 1.0 if min(a.cost.value, b.cost.value) * factor <= (goal.budget or math.inf) else 0.0
    value = goal.value(accuracy, tokens)
    return goal.slack(accuracy, tokens, within) >= 0 and value > best + goal.tolerance(tokens)


def _value_of(goal: Goal, option: Option) -> float:
    return goal.value(option.accuracy.value, option.tokens.value)


def _middle(state: _State, a: str, b: str) -> str | None:
    """The candidate nearest to the middle between two neighbours, None if there is none between them."""
    low, high = state.lams[a], state.lams[b]
    inner = [label for label, lam in state.lams.items() if low < lam < high]
    return min(inner, key=lambda label: abs(state.lams[label] - (low + high) / 2), default=None)


def _held_out(
    state: _State, choice: Choice, pairs: list[tuple[str, int]]
) -> Generator[Step, list[Sample], list[Option]]:
    """Sample and measure the choice and its closest rival on the held-out questions."""
    best = choice.pick or choice.nearest
    assert best is not None
    shown = [best.setting, *(rival.setting for rival in choice.rivals[:1])]
    yield from state.sample(shown, pairs, "on the questions held out")
    held = set(pairs)
    rows = [s for a, s in state.samples.items() if a.setting in shown and (a.question, a.number) in held]
    found = {option.setting: option for option in measure(rows, state.goal)}
    return [found[setting] for setting in shown if setting in found]
