"""Compares two gradings of the same responses. Pure functions on `Sample` records; knows no store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mull.analysis.metrics import Estimate, clustered_mean
from mull.analysis.records import Sample


@dataclass(frozen=True, kw_only=True)
class GradingChange:
    """What a second grading changed in one setting."""

    setting: str
    lam: float | None
    samples: int
    became_right: int
    became_wrong: int
    answers: int
    """Responses whose extracted answer changed while they stayed right, or wrong."""
    before: Estimate
    """Mean@k by the first grading, 0–1."""
    after: Estimate
    difference: Estimate
    """After − before, paired by response, clustered by question."""
    which: Sequence[tuple[Sample, Sample]]
    """The responses that became right or wrong: (first grade, second grade)."""

    @property
    def changed(self) -> int:
        return self.became_right + self.became_wrong


def grading_changes(first: Sequence[Sample], second: Sequence[Sample]) -> list[GradingChange]:
    """The changes per setting, in the order of `first`. Both lists hold the same responses in the same order."""
    groups: dict[str, list[tuple[Sample, Sample]]] = {}
    for pair in zip(first, second, strict=True):
        groups.setdefault(pair[0].setting, []).append(pair)
    return [_change(pairs) for pairs in groups.values()]


def _change(pairs: list[tuple[Sample, Sample]]) -> GradingChange:
    number: dict[str, int] = {}
    cluster = np.array([number.setdefault(old.question, len(number)) for old, _ in pairs], dtype=int)
    before = np.array([old.correct for old, _ in pairs], dtype=float)
    after = np.array([new.correct for _, new in pairs], dtype=float)
    return GradingChange(
        setting=pairs[0][0].setting,
        lam=pairs[0][0].lam,
        samples=len(pairs),
        became_right=int((after > before).sum()),
        became_wrong=int((after < before).sum()),
        answers=sum(old.correct == new.correct and old.answer != new.answer for old, new in pairs),
        before=clustered_mean(before, cluster),
        after=clustered_mean(after, cluster),
        difference=clustered_mean(after - before, cluster),
        which=[(old, new) for old, new in pairs if old.correct != new.correct],
    )
