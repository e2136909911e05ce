"""Head-room: how much choosing λ for each question could gain over one λ for all questions.

Two oracles choose a setting for each question from a run's samples. *By stratum*: one setting per difficulty class,
chosen on four fifths of the questions and measured on the rest. *By question*: chosen on half of a question's samples
and measured on the other half. So no response is used both to choose and to measure.

Both are compared with the static frontier: what settings can reach that are chosen without knowing the question, random
mixtures of two settings included. It is computed from the same responses without cross-fitting, which favours it, so
that gains are rather under- than overestimated. The oracle by question has few samples per question, so their means are
shrunk towards that of the stratum; its gain is a lower bound of the gain of perfect knowledge.

Axes: S settings, Q questions, G groups of questions, R resamples. Knows no estimator and no engine.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from mull.analysis.choosing.choose import FOLDS, decide, value_difference
from mull.analysis.choosing.options import Goal, measure
from mull.analysis.choosing.tally import Tally
from mull.analysis.frontier import concave_hull
from mull.analysis.metrics import bootstrap
from mull.analysis.records import Sample, by_benchmark
from mull.errors import MullError

SHARES = (0.25, 0.5, 0.75, 1.0)
"""Budgets at which oracles and static frontier are compared: shares of the tokens of the best static setting."""
RESAMPLES = 2000
PRIOR = 2.0
"""Weight of the stratum's mean beside a question's own samples, in responses, for the oracle by question."""

Kind = Literal["stratum", "question"]

_ANY = Goal(budget=1e18)
"""A budget that every setting keeps."""


class Interval(NamedTuple):
    """A value with its 95 % interval: 2.5 and 97.5 % quantiles over resamples of the questions."""

    value: float
    low: float
    high: float


class Gain(NamedTuple):
    """An oracle compared with the static frontier at one budget."""

    share: float
    """The budget, as a share of the tokens of the best static setting."""
    tokens: float
    """Mean tokens per response that the oracle spent."""
    accuracy: float
    """Mean@k of the oracle, 0–1."""
    static: float
    """Accuracy of the static frontier at the same tokens, 0–1."""
    gain: Interval
    """`accuracy` − `static`."""


class Saving(NamedTuple):
    """An oracle that reaches the accuracy of the best static setting with as few tokens as possible."""

    tokens: float
    accuracy: float
    saved: Interval
    """1 − tokens / tokens of that setting."""
    difference: Interval
    """Accuracy − that setting's accuracy, paired by question."""


class Oracle(NamedTuple):
    """The gains and the saving of one oracle."""

    kind: Kind
    gains: Sequence[Gain]
    """By rising budget; a budget at which the oracle spends no more than at the one before is left out."""
    saving: Saving

    @property
    def pays(self) -> bool:
        """Whether λ per query could pay, by the 95 % intervals: accuracy is higher at half the budget, or tokens are
        saved while accuracy is not lower."""
        half = next((gain.gain.low > 0 for gain in self.gains if gain.share == 0.5), False)
        return half or (self.saving.saved.low > 0 and self.saving.difference.high >= 0)


@dataclass(frozen=True, kw_only=True)
class Headroom:
    """The head-room of one run."""

    settings: Sequence[str]
    questions: int
    left_out: int
    """Number of questions that lack two responses under some setting."""
    best: str
    """The best static setting: the one with the fewest tokens within one paired standard error of the most accurate."""
    accuracy: float
    tokens: float
    oracles: Sequence[Oracle]
    allotted: Mapping[str, Mapping[str, float]]
    """Stratum → setting → share 0–1, as the oracle by stratum chooses at half the budget, fitted on all questions."""


def headroom(samples: Sequence[Sample], *, resamples: int = RESAMPLES, seed: int = 0) -> Headroom:
    """The head-room of λ per query in the samples of one benchmark, over all settings that have a λ.

    Raises `MullError` for fewer than two λ, fewer than `2 · FOLDS` questions that have two responses under each, and
    several benchmarks.
    """
    samples = [sample for sample in samples if sample.lam is not None]
    benchmarks = list(by_benchmark(samples))
    if len(benchmarks) > 1:
        raise MullError(f"head-room is that of one benchmark, got {', '.join(benchmarks)}", "give them one at a time")
    halves = [[sample for sample in samples if sample.index % 2 == half] for half in (0, 1)]
    settings = {sample.setting for sample in samples}
    if len(settings) < 2:
        raise MullError(f"head-room needs two λ at least, the run has {len(settings)}", "sweep a grid of λ first")
    complete = _in_both_halves(halves, settings)
    questions = len({sample.question for sample in samples})
    if len(complete) < 2 * FOLDS:
        raise MullError(
            f"head-room needs {2 * FOLDS} questions with two responses under every λ, the run has {len(complete)}",
            "sweep with -k 2 or more, or let the run finish",
        )
    samples = [sample for sample in samples if sample.question in complete]
    records = _Records.of(samples)
    best = _best_static(samples)
    drawn_RQ = bootstrap(len(complete), resamples, seed)
    comparison = _Comparison(records, best, drawn_RQ)
    kinds: list[Kind] = ["stratum", "question"] if len(set(records.strata)) > 1 else ["question"]
    budget = float(records.tokens[best].mean())
    allotted = _allocate_by_stratum(records, budget / 2, None) if "stratum" in kinds else np.zeros((0, 0))
    return Headroom(
        settings=records.settings,
        questions=len(complete),
        left_out=questions - len(complete),
        best=records.settings[best],
        accuracy=float(records.correct[best].mean()),
        tokens=budget,
        oracles=[comparison.oracle(kind) for kind in kinds],
        allotted={
            stratum: {name: float(w) for name, w in zip(records.settings, weights, strict=True) if w > 1e-9}
            for stratum, weights in zip(sorted(set(records.strata)), allotted, strict=False)
        },
    )


def allocate(
    accuracy_GS: np.ndarray,
    tokens_GS: np.ndarray,
    weight_G: np.ndarray,
    *,
    budget: float = math.inf,
    target: float = math.inf,
) -> np.ndarray:
    """The share of each setting in each group that maximises mean accuracy: weights [G, S], rows summing to 1.

    Mean tokens stay within `budget`, unless the cheapest settings already exceed it; no more are spent once the mean
    accuracy reaches `target`. This is the fractional multiple-choice knapsack, solved exactly: take steps along the
    groups' concave frontiers, in the order of accuracy gained per token (Sinha & Zoltners 1979, Operations Research
    27:503). At most one group gets a mixture of two settings.
    """
    share_G = weight_G / weight_G.sum()
    weights_GS = np.zeros_like(accuracy_GS, dtype=float)
    steps: list[tuple[float, int, int, int]] = []
    tokens = accuracy = 0.0
    for g, (right_S, cost_S) in enumerate(zip(accuracy_GS, tokens_GS, strict=True)):
        corners = concave_hull(cost_S, right_S)
        weights_GS[g, corners[0]] = 1.0
        tokens += share_G[g] * cost_S[corners[0]]
        accuracy += share_G[g] * right_S[corners[0]]
        for a, b in itertools.pairwise(corners):
            steps.append((-(right_S[b] - right_S[a]) / (cost_S[b] - cost_S[a]), g, a, b))
    for _, g, a, b in sorted(steps):
        cost = share_G[g] * (tokens_GS[g, b] - tokens_GS[g, a])
        gain = share_G[g] * (accuracy_GS[g, b] - accuracy_GS[g, a])
        part = float(np.clip(min((budget - tokens) / cost, (target - accuracy) / gain), 0.0, 1.0))
        weights_GS[g, a], weights_GS[g, b] = 1.0 - part, part
        tokens, accuracy = tokens + part * cost, accuracy + part * gain
        if part < 1.0:
            break
    return weights_GS


@dataclass(frozen=True)
class _Records:
    """Means over the samples of each setting and question, [S, Q], and over either half of the samples, [2, S, Q]."""

    settings: Sequence[str]
    strata: Sequence[str]
    """Of each question."""
    half_count: float
    """Mean number of responses of a question and setting in one half."""
    correct: np.ndarray
    tokens: np.ndarray
    half_correct: np.ndarray
    half_tokens: np.ndarray

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> _Records:
        tallies = [
            Tally.of(rows, _ANY)
            for rows in (samples, *([sample for sample in samples if sample.index % 2 == half] for half in (0, 1)))
        ]
        right, cost = ([t.correct / t.count for t in tallies], [t.tokens / t.count for t in tallies])
        stratum = {sample.question: sample.stratum for sample in samples}
        return cls(
            tallies[0].settings,
            [stratum[question] for question in sorted(stratum)],  # as `Tally` has them
            float(tallies[0].count.mean() / 2),
            right[0],
            cost[0],
            np.stack(right[1:]),
            np.stack(cost[1:]),
        )


class _Comparison:
    """Compares oracles with the static frontier, in the run itself and in resamples of its questions."""

    def __init__(self, records: _Records, best: int, drawn_RQ: np.ndarray) -> None:
        self.records = records
        self.best = best
        self.share_RQ = np.vstack([np.ones(drawn_RQ.shape[1]), drawn_RQ])  # the run itself comes first
        self.share_RQ = self.share_RQ / self.share_RQ.sum(axis=1, keepdims=True)
        right_RS, cost_RS = self.share_RQ @ records.correct.T, self.share_RQ @ records.tokens.T
        corners = [concave_hull(cost, right) for cost, right in zip(cost_RS, right_RS, strict=True)]
        self.static = [(c[f], r[f]) for f, c, r in zip(corners, cost_RS, right_RS, strict=True)]
        self.best_right_R, self.best_cost_R = right_RS[:, best], cost_RS[:, best]

    def oracle(self, kind: Kind) -> Oracle:
        counted = _by_stratum if kind == "stratum" else _by_question
        budget = float(self.best_cost_R[0])
        cheapest = float(self.static[0][0][0])
        shares = [share for share in SHARES if share * budget >= cheapest]
        gains = [self._gain(share, counted(self.records, share * budget, None)) for share in shares]
        aimed = self._saving(counted(self.records, math.inf, self.best))
        spent = [gain for i, gain in enumerate(gains) if i == 0 or gain.tokens > gains[i - 1].tokens]
        return Oracle(kind, spent, aimed)

    def _gain(self, share: float, counted: tuple[np.ndarray, np.ndarray]) -> Gain:
        right_R, cost_R = (self.share_RQ @ values for values in counted)
        static_R = np.array([np.interp(cost, *static) for cost, static in zip(cost_R, self.static, strict=True)])
        return Gain(share, float(cost_R[0]), float(right_R[0]), float(static_R[0]), _interval(right_R - static_R))

    def _saving(self, counted: tuple[np.ndarray, np.ndarray]) -> Saving:
        right_R, cost_R = (self.share_RQ @ values for values in counted)
        saved, difference = _interval(1 - cost_R / self.best_cost_R), _interval(right_R - self.best_right_R)
        return Saving(float(cost_R[0]), float(right_R[0]), saved, difference)


def _interval(value_R: np.ndarray) -> Interval:
    low, high = np.quantile(value_R[1:], [0.025, 0.975])
    return Interval(float(value_R[0]), float(low), float(high))


def _by_stratum(records: _Records, budget: float, best: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy and tokens [Q] of each question under the settings chosen for its stratum on the other folds."""
    names = sorted(set(records.strata))
    stratum_Q = np.array([names.index(stratum) for stratum in records.strata])
    fold_Q = np.empty(len(stratum_Q), dtype=int)
    for stratum in range(len(names)):  # spread every stratum evenly over the folds
        members = np.flatnonzero(stratum_Q == stratum)
        fold_Q[members] = np.arange(members.size) % FOLDS
    weights_QS = np.empty((len(stratum_Q), len(records.settings)))
    for fold in range(FOLDS):
        weights_GS = _allocate_by_stratum(records, budget, best, fold_Q != fold)
        weights_QS[fold_Q == fold] = weights_GS[stratum_Q[fold_Q == fold]]
    return _weighted(weights_QS, records.correct), _weighted(weights_QS, records.tokens)


def _allocate_by_stratum(
    records: _Records, budget: float, best: int | None, kept_Q: np.ndarray | None = None
) -> np.ndarray:
    """`allocate` by stratum [G, S] on the questions `kept_Q`; with `best`, until that setting's accuracy is reached.

    A stratum without kept questions uses the means of all kept questions.
    """
    strata = np.array(records.strata)
    kept_Q = np.ones(strata.size, dtype=bool) if kept_Q is None else kept_Q
    groups = [kept_Q & (strata == stratum) for stratum in sorted(set(records.strata))]
    groups = [group if group.any() else kept_Q for group in groups]
    right_GS = np.stack([records.correct[:, group].mean(axis=1) for group in groups])
    cost_GS = np.stack([records.tokens[:, group].mean(axis=1) for group in groups])
    target = math.inf if best is None else float(records.correct[best, kept_Q].mean())
    return allocate(right_GS, cost_GS, np.array([group.sum() for group in groups]), budget=budget, target=target)


def _by_question(records: _Records, budget: float, best: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy and tokens [Q] of each question, each half of its samples under the settings chosen by the other."""
    found = []
    for fitted, counted in ((0, 1), (1, 0)):
        right_QS, cost_QS = (_shrunk(records, values[fitted]) for values in (records.half_correct, records.half_tokens))
        target = math.inf if best is None else float(right_QS[:, best].mean())
        weights_QS = allocate(right_QS, cost_QS, np.ones(len(right_QS)), budget=budget, target=target)
        found.append(
            (_weighted(weights_QS, records.half_correct[counted]), _weighted(weights_QS, records.half_tokens[counted]))
        )
    (right_a, cost_a), (right_b, cost_b) = found
    return (right_a + right_b) / 2, (cost_a + cost_b) / 2


def _shrunk(records: _Records, values_SQ: np.ndarray) -> np.ndarray:
    """Each question's values [Q, S], shrunk towards the mean of its stratum as by `PRIOR` responses of that mean."""
    strata = np.array(records.strata)
    prior_SQ = np.empty_like(values_SQ)
    for stratum in set(records.strata):
        prior_SQ[:, strata == stratum] = values_SQ[:, strata == stratum].mean(axis=1, keepdims=True)
    own = records.half_count / (records.half_count + PRIOR)
    return (own * values_SQ + (1 - own) * prior_SQ).T


def _weighted(weights_QS: np.ndarray, values_SQ: np.ndarray) -> np.ndarray:
    return (weights_QS * values_SQ.T).sum(axis=1)


def _in_both_halves(halves: Sequence[Sequence[Sample]], settings: set[str]) -> set[str]:
    """The questions that have responses in both halves under every setting."""
    kept: set[str] | None = None
    for rows in halves:
        answered: dict[str, set[str]] = {}
        for sample in rows:
            answered.setdefault(sample.question, set()).add(sample.setting)
        complete = {question for question, found in answered.items() if found == settings}
        kept = complete if kept is None else kept & complete
    return kept or set()


def _best_static(samples: Sequence[Sample]) -> int:
    """Index in `Tally.settings` of `Headroom.best`, by the rule of `mull.analysis.choosing.choose`."""
    tally = Tally.of(samples, _ANY)
    error: Callable[[int, int], float] = lambda a, b: value_difference(tally, _ANY, a, b).error  # noqa: E731
    options = measure(samples, _ANY)
    picked = decide(options, _ANY, error)
    assert picked is not None
    return tally.settings.index(options[picked].setting)
