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
    values = {option.setting: _values(samples, option.setting, choice.goal) for option in choice.options}
    constraint, objective = values[best.setting]
    found = [_open("constraint", "", best.slack.value, constraint)]
    for rival in choice.rivals:
        if rival.verdict == "tie":
            other = values[rival.setting][1]
            paired = {key: value - other[key] for key, value in objective.items() if key in other}
            lead = _open("lead", rival.setting, float(np.mean(list(paired.values()) or [0.0])), paired)
            if abs(lead.gap) + CLEAR * lead.error > choice.goal.tolerance(best.tokens.value):
                found.append(lead)
                break
    return [each for each in found if not abs(each.gap) > CLEAR * each.error]


def _open(kind: Literal["constraint", "lead"], rival: str, gap: float, values: Mapping[tuple[str, int], float]) -> Open:
    error, within = _components(values)
    least = 1 / len(values) if kind == "lead" and error == 0 and values else 0.0  # see `Tally.accuracy_difference`
    error = max(error, least)
    between = max(error**2 - within, 0.0)
    return Open(kind, rival, gap, error, math.sqrt(between + min(within, error**2) / 2), error / math.sqrt(2))


def _components(values: Mapping[tuple[str, int], float]) -> tuple[float, float]:
    """Standard error of the mean of `values`, and the part of its square that more samples per question reduce.

    `values`: (question, index) → value."""
    number: dict[str, int] = {}
    cluster = np.array([number.setdefault(question, len(number)) for question, _ in values])
    numbers = np.array(list(values.values()))
    counts = np.bincount(cluster)
    spread = numbers - (np.bincount(cluster, weights=numbers) / counts)[cluster]
    freedom = numbers.size - counts.size
    noise = float((spread**2).sum() / freedom) if freedom else 0.0
    return clustered_mean(numbers, cluster).error, noise / numbers.size


def _values(
    samples: Sequence[Sample], setting: str, goal: Goal
) -> tuple[dict[tuple[str, int], float], dict[tuple[str, int], float]]:
    """Two maps of (question, index): to the constraint's slack, and to the goal's value."""
    rows = [sample for sample in samples if sample.setting == setting]
    constraint, objective = {}, {}
    for row in rows:
        within = float(row.tokens <= (goal.budget or 0.0))
        constraint[row.question, row.index] = goal.slack(float(row.correct), float(row.tokens), within)
        objective[row.question, row.index] = goal.value(float(row.correct), float(row.tokens))
    return constraint, objective
