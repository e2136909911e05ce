"""Compares policies with the static frontier at the same mean tokens, with intervals paired by question.

The static frontier is what λ alone can do: the upper hull of accuracy over tokens, whose lines are mixtures of two
static λ. A policy that lies above it with an interval that excludes zero knows something about the questions. The
frontier takes the best static λ of this run, so the comparison leans against the policies.

Axes: Q questions, S static settings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mull.analysis.frontier import concave_hull
from mull.analysis.paired import PairedDifference, student
from mull.analysis.records import Sample
from mull.dynamic.evaluation.policies import PolicyKind
from mull.errors import MullError


class Means(NamedTuple):
    """Means over a question's samples, float64 `[Q]` each, in the order of the question ids."""

    accuracy: np.ndarray
    tokens: np.ndarray
    prefilled: np.ndarray
    """Prompt tokens read to choose λ, the response's own prompt not counted."""
    benchmark: np.ndarray
    """The number of each question's benchmark, int64 `[Q]`. Several weigh the same, whatever their questions."""

    def mean(self, values_Q: np.ndarray) -> float:
        """Mean over the benchmarks of the means over their questions."""
        return float(np.mean([values_Q[rows].mean() for rows in self._rows()]))

    def error(self, values_Q: np.ndarray) -> float:
        """Standard error of `mean`; the questions of different benchmarks are independent."""
        squares = [values_Q[rows].var(ddof=1) / rows.sum() for rows in self._rows()]
        return math.sqrt(sum(squares)) / len(squares)

    def judge(self, differences_Q: np.ndarray, *, share: bool = False) -> PairedDifference:
        """Mean of per-question differences, with Student's t interval."""
        count = len(differences_Q) - len(self._rows()) + 1  # one degree of freedom is lost in each benchmark
        return student(self.mean(differences_Q), self.error(differences_Q), count, share=share)

    def _rows(self) -> list[np.ndarray]:
        return [self.benchmark == number for number in np.unique(self.benchmark)]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One policy on one benchmark, or on several that weigh the same. Accuracies are fractions, tokens per response."""

    label: str
    kind: PolicyKind
    accuracy: float
    accuracy_error: float
    tokens: float
    """Those generated to choose λ included."""
    tokens_error: float
    prefilled: float
    """Prompt tokens read to choose λ."""
    gain: PairedDifference
    """Accuracy above the static frontier at the same tokens."""
    gain_over_budgets: PairedDifference | None
    """The same above the frontier of thinking budgets, where some were sampled."""
    over_thinking: PairedDifference
    """Accuracy less that of the Thinking end."""
    tokens_over_thinking: PairedDifference
    seconds: float | None = None
    """Wall-clock seconds of the machine per response, the choice of λ included, when the policy was sampled by itself,
    many responses at a time: the inverse of throughput, not the time that one user waits."""
    speed_up: float | None = None
    """Seconds of the static frontier, mixtures of two λ included, that is at least as accurate over this policy's
    seconds; None where no static λ is as accurate."""
    lam: float | None = None
    """Mean λ; None where λ is not what the policy decides."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """One benchmark."""

    benchmark: str
    questions: int
    rows: Sequence[Row]
    source: str = ""
    """Where the responses come from, if they were not sampled for this comparison."""

    def row(self, label: str) -> Row:
        return next(row for row in self.rows if row.label == label)


def question_means(samples: Sequence[Sample], extra_prefill: Mapping[tuple[str, str], float]) -> dict[str, Means]:
    """Setting → means by question, over the questions that every setting answered.

    `extra_prefill`: (setting, question) → prompt tokens read to choose λ. Raises `MullError` where no question was
    answered under all settings.
    """
    cells: dict[str, dict[str, list[Sample]]] = {}
    for sample in samples:
        cells.setdefault(sample.setting, {}).setdefault(sample.question, []).append(sample)
    shared = sorted(set.intersection(*(set(own) for own in cells.values()))) if cells else []
    if len(shared) < 2:
        raise MullError("no two questions are answered under every policy", "let the evaluation go on")
    return {
        setting: Means(
            np.array([np.mean([s.correct for s in own[q]]) for q in shared]),
            np.array([np.mean([s.tokens for s in own[q]]) for q in shared]),
            np.array([extra_prefill.get((setting, q), 0.0) for q in shared]),
            np.zeros(len(shared), int),
        )
        for setting, own in cells.items()
    }


def pooled(benchmarks: Sequence[Mapping[str, Means]]) -> dict[str, Means]:
    """All benchmarks as one, for the settings that all have."""
    labels = [label for label in benchmarks[0] if all(label in each for each in benchmarks)]
    numbers = [np.full(len(each[labels[0]].accuracy), number) for number, each in enumerate(benchmarks)]

    def joined(label: str) -> Means:
        accuracy, tokens, prefilled = (np.concatenate([each[label][part] for each in benchmarks]) for part in range(3))
        return Means(accuracy, tokens, prefilled, np.concatenate(numbers))

    return {label: joined(label) for label in labels}


def above(means: Means, others: Sequence[Means], *, prefill_weight: float = 0.0) -> PairedDifference:
    """Accuracy of a policy above the frontier of `others` at the same mean tokens, paired by question.

    With a and t the accuracy and tokens of a question, and the frontier's mixture of its two neighbours at the policy's
    mean tokens, the difference of a question is (a − a_mixture) − s·(t − t_mixture), with s the frontier's slope: its
    mean is the height above the frontier, its spread counts that tokens vary, too. Below the frontier's cheapest and
    beyond its most accurate setting the policy is compared with that one. A prompt token read to choose λ counts as
    `prefill_weight` of a generated one.
    """
    tokens = means.tokens + prefill_weight * means.prefilled
    cost_S = np.array([means.mean(other.tokens) for other in others])
    right_S = np.array([means.mean(other.accuracy) for other in others])
    corners = concave_hull(cost_S, right_S)
    spent = means.mean(tokens)
    place = int(np.searchsorted(cost_S[corners], spent))
    if place == 0 or place == len(corners):
        nearest = others[corners[0 if place == 0 else -1]]
        return means.judge(means.accuracy - nearest.accuracy, share=True)
    a, b = corners[place - 1], corners[place]
    part = (spent - cost_S[a]) / (cost_S[b] - cost_S[a])
    slope = (right_S[b] - right_S[a]) / (cost_S[b] - cost_S[a])
    accuracy = (1 - part) * others[a].accuracy + part * others[b].accuracy
    mixed = (1 - part) * others[a].tokens + part * others[b].tokens
    return means.judge(means.accuracy - accuracy - slope * (tokens - mixed), share=True)


MOST_WEIGHT = 4.0
"""A prompt token is never dearer than a few generated ones."""


def break_even(means: Means, static: Sequence[Means]) -> float | None:
    """The largest weight of a prompt token read to choose λ at which the gain is still sure; None if it is not sure at
    weight 0, infinity if it is sure at any."""

    def sure(weight: float) -> bool:
        return above(means, static, prefill_weight=weight).low > 0

    if not sure(0.0):
        return None
    if not means.prefilled.any() or sure(MOST_WEIGHT):
        return math.inf
    low, high = 0.0, MOST_WEIGHT
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if sure(middle) else (low, middle)
    return low


def table(
    benchmark: str,
    means: Mapping[str, Means],
    kinds: Mapping[str, PolicyKind],
    *,
    seconds: Mapping[str, float] | None = None,
    lams: Mapping[str, float] | None = None,
    prefill_weight: float = 0.0,
) -> Table:
    """The comparison on one benchmark, or on several that are `pooled`.

    `kinds`: of every policy, in the order of the rows; static λ with the Thinking end ("1") are among them. `seconds`:
    wall-clock seconds per response; `lams`: mean λ. Raises `MullError` without the Thinking end.
    """
    static, budgets = ([label for label, kind in kinds.items() if kind == each] for each in ("static", "budget"))
    if "1" not in static:
        raise MullError("the Thinking end (λ = 1) is not among the static λ", "sample it, too")
    seconds = seconds or {}
    frontier_of = [means[label] for label in static]
    budgeted = [means[label] for label in (*budgets, "1")] if budgets else []
    thinking = means["1"]
    rows = []
    for label, kind in kinds.items():
        own = means[label]
        charged = own.tokens + prefill_weight * own.prefilled
        rows.append(
            Row(
                label=label,
                kind=kind,
                accuracy=own.mean(own.accuracy),
                accuracy_error=own.error(own.accuracy),
                tokens=own.mean(charged),
                tokens_error=own.error(charged),
                prefilled=own.mean(own.prefilled),
                gain=above(own, frontier_of, prefill_weight=prefill_weight),
                gain_over_budgets=above(own, budgeted, prefill_weight=prefill_weight) if budgeted else None,
                over_thinking=own.judge(own.accuracy - thinking.accuracy, share=True),
                tokens_over_thinking=own.judge(charged - thinking.tokens),
                seconds=seconds.get(label),
                speed_up=_speed_up(label, means, static, seconds),
                lam=(lams or {}).get(label),
            )
        )
    return Table(benchmark=benchmark, questions=len(thinking.accuracy), rows=rows)


def _speed_up(
    label: str, means: Mapping[str, Means], static: Sequence[str], seconds: Mapping[str, float]
) -> float | None:
    """Seconds of the static frontier over those of `label` at its accuracy."""
    if label not in seconds or any(each not in seconds for each in static):
        return None
    time_S = np.array([seconds[each] for each in static])
    right_S = np.array([means[each].mean(means[each].accuracy) for each in static])
    corners = concave_hull(time_S, right_S)
    accuracy = means[label].mean(means[label].accuracy)
    if accuracy > right_S[corners[-1]]:
        return None
    needed = float(np.interp(accuracy, right_S[corners], time_S[corners]))
    return needed / seconds[label] if seconds[label] > 0 else None
