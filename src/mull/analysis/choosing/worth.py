"""How much more samples per question, or more questions, would reduce the errors that leave a choice open.

A part of the standard error over questions shrinks with more samples per question; the rest shrinks only with more
questions (Miller 2024, arXiv 2411.00640, section 3.2).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from mull.analysis.choosing.choose import Choice
from mull.analysis.choosing.options import Goal
from mull.analysis.metrics import clustered_mean
from mull.analysis.records import Sample

CLEAR = 1.96
"""A comparison is clear if its gap is more than this many standard errors."""


class Open(NamedTuple):
    """A comparison that is not clear yet. Numbers are in the unit of what is compared: a share 0–1, or tokens."""

    kind: Literal["constraint", "lead"]
    """"constraint": does the chosen (or nearest) setting meet it? "lead": is it better than `rival`?"""
    rival: str
    """Empty for the constraint."""
    gap: float
    error: float
    more_samples: float
    """The error with twice the samples per question."""
    more_questions: float
    """The error with twice the questions."""

    @property
    def factor(self) -> float:
        """Factor by which the questions must be multiplied to make this gap clear; infinite for a gap of 0."""
        return (CLEAR * self.error / self.gap) ** 2 if self.gap else math.inf


def what_is_open(samples: Sequence[Sample], choice: Choice) -> list[Open]:
    """The comparisons that are not clear yet: the constraint, and the lead over the closest rival that is a tie.

    A lead that is surely smaller than the goal's tolerance is left out, because it does not matter.
    """
    best = choice.pick or choice.nearest
    assert best is not None
    goal = choice.goal
    values = {option.setting: _values(samples, option.setting, goal) for option in choice.options}
    constraint, objective = values[best.setting]
    found = [_open("constraint", "", best.slack.value, constraint, goal)]
    for rival in choice.rivals:
        if rival.verdict == "tie":
            other = values[rival.setting][1]
            paired = {key: value - other[key] for key, value in objective.items() if key in other}
            lead = _open("lead", rival.setting, _mean(paired, goal), paired, goal)
            if abs(lead.gap) + CLEAR * lead.error > choice.goal.tolerance(best.tokens.value):
                found.append(lead)
                break
    return [each for each in found if not abs(each.gap) > CLEAR * each.error]


Values = Mapping[tuple[str, str, int], float]
"""(benchmark, question, index) → value."""


def _open(kind: Literal["constraint", "lead"], rival: str, gap: float, values: Values, goal: Goal) -> Open:
    parts, shares = _parts(values, goal)
    each = [_components(part) for part in parts]
    error = math.sqrt(sum((share * error) ** 2 for share, (error, _) in zip(shares, each, strict=True)))
    within = sum(share**2 * within for share, (_, within) in zip(shares, each, strict=True))
    if kind == "lead" and error == 0 and values:  # see `Tally.accuracy_difference`
        error = math.sqrt(sum((share / len(part)) ** 2 for share, part in zip(shares, parts, strict=True)))
    between = max(error**2 - within, 0.0)
    return Open(kind, rival, gap, error, math.sqrt(between + min(within, error**2) / 2), error / math.sqrt(2))


def _parts(values: Values, goal: Goal) -> tuple[list[Values], list[float]]:
    """The values of each benchmark, and the benchmarks' weights, with the sum 1."""
    parts: dict[str, dict[tuple[str, str, int], float]] = {}
    for key, value in values.items():
        parts.setdefault(key[0], {})[key] = value
    return list(parts.values()), list(goal.shares(list(parts))) if len(parts) > 1 else [1.0] * len(parts)


def _mean(values: Values, goal: Goal) -> float:
    parts, shares = _parts(values, goal)
    return sum(share * float(np.mean(list(part.values()))) for share, part in zip(shares, parts, strict=True))


def _components(values: Values) -> tuple[float, float]:
    """Standard error of the mean of one benchmark's `values`, and the part of its square that more samples per question
    reduce."""
    number: dict[str, int] = {}
    cluster = np.array([number.setdefault(question, len(number)) for _, question, _ in values])
    numbers = np.array(list(values.values()))
    counts = np.bincount(cluster)
    spread = numbers - (np.bincount(cluster, weights=numbers) / counts)[cluster]
    freedom = numbers.size - counts.size
    noise = float((spread**2).sum() / freedom) if freedom else 0.0
    return clustered_mean(numbers, cluster).error, noise / numbers.size


def _values(samples: Sequence[Sample], setting: str, goal: Goal) -> tuple[Values, Values]:
    """The constraint's slack and the goal's value of every response."""
    rows = [sample for sample in samples if sample.setting == setting]
    constraint, objective = {}, {}
    for row in rows:
        within = float(row.tokens <= (goal.budget or 0.0))
        key = row.benchmark, row.question, row.index
        constraint[key] = goal.slack(float(row.correct), float(row.tokens), within)
        objective[key] = goal.value(float(row.correct), float(row.tokens))
    return constraint, objective
