"""What more samples would buy for a choice: how far two kinds of doubling narrow what is still open.

An error over questions has a part that more samples per question shrink and one that only more questions do (Miller
2024, arXiv 2411.00640, section 3.2).
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
"""Errors between an estimate and what it is compared with that make the comparison clear."""


class Open(NamedTuple):
    """One comparison that decides the choice, in the unit of what is compared (a share 0–1, or tokens)."""

    kind: Literal["constraint", "lead"]
    """Whether the chosen (or nearest) setting meets the constraint, or whether it is ahead of `rival`."""
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
        """How many times as many questions make a gap of this size clear; infinite for no gap."""
        return (CLEAR * self.error / self.gap) ** 2 if self.gap else math.inf


def what_is_open(samples: Sequence[Sample], choice: Choice) -> list[Open]:
    """The comparisons that are not clear yet: the constraint first, then the closest rival called a tie.

    A lead that cannot well be larger than the goal's tolerance is not open: it does not matter.
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
    """Standard error of the mean of `values` by (question, index), and the part of its square due to the samples."""
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
    """By (question, index): what the constraint bounds, and the goal's value."""
    rows = [sample for sample in samples if sample.setting == setting]
    constraint, objective = {}, {}
    for row in rows:
        within = float(row.tokens <= (goal.budget or 0.0))
        constraint[row.question, row.index] = goal.slack(float(row.correct), float(row.tokens), within)
        objective[row.question, row.index] = goal.value(float(row.correct), float(row.tokens))
    return constraint, objective
