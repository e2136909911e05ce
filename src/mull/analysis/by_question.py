"""What each setting scored on each question: the rows that paired comparisons of any metric need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from mull.analysis.metrics import Equivalence, pass_at_k, vote
from mull.analysis.paired import paired_mean
from mull.analysis.records import Sample

Mark = Literal["", "best", "second", "near-best", "near-second"]
"""What `leaders` says of a setting."""
Metric = Literal["mean_at_k", "pass_at_k", "vote_at_k", "tokens", "think_ratio"]


class Scored(NamedTuple):
    """One question under one setting. Shares are fractions 0–1."""

    mean_at_k: float
    pass_at_k: float
    vote_at_k: float
    tokens: float
    think_ratio: float


def by_question(
    samples: Sequence[Sample], k: int | None = None, equivalent: Equivalence | None = None
) -> dict[str, dict[str, Scored]]:
    """Setting → question → its values, of one benchmark.

    `k` is that of Pass@k, the same for all settings: Pass@8 would always beat Pass@1. By default `fewest_samples`.
    """
    k = k or fewest_samples(samples)
    groups: dict[str, dict[str, list[Sample]]] = {}
    for sample in samples:
        groups.setdefault(sample.setting, {}).setdefault(sample.question, []).append(sample)
    return {
        setting: {question: _scored(rows, k, equivalent) for question, rows in questions.items()}
        for setting, questions in groups.items()
    }


def fewest_samples(samples: Sequence[Sample]) -> int:
    """The fewest samples that any question of any setting has: the largest k at which all have a Pass@k; 0 of none."""
    counts = Counter((sample.setting, sample.benchmark, sample.question) for sample in samples)
    return min(counts.values(), default=0)


def _scored(rows: Sequence[Sample], k: int, equivalent: Equivalence | None) -> Scored:
    right = [row.correct for row in rows]
    return Scored(
        mean_at_k=sum(right) / len(rows),
        pass_at_k=pass_at_k(len(rows), sum(right), k),
        vote_at_k=vote([row.answer for row in rows], right, equivalent),
        tokens=sum(row.tokens for row in rows) / len(rows),
        think_ratio=sum(row.thinking == "closed" for row in rows) / len(rows),
    )


def differences_by_question(found: Mapping[str, Mapping[str, Scored]], a: str, b: str, metric: Metric) -> np.ndarray:
    """Value of setting `a` − that of `b` on each question both answered, [Q], in the questions' order."""
    shared = sorted(found[a].keys() & found[b].keys())
    return np.array([getattr(found[a][q], metric) - getattr(found[b][q], metric) for q in shared], dtype=float)


def leaders(found: Mapping[str, Mapping[str, Scored]], metric: Metric) -> dict[str, Mark]:
    """Which settings have the highest mean over questions, as far as the data can tell; no marks unless all settings
    answered the same questions: means over different ones cannot be ranked.

    "best" and "second" only where every lower setting is further off than one paired standard error; those within it
    are all "near-best" (then none is best or second) or "near-second", the leader among them.
    """
    marks: dict[str, Mark] = dict.fromkeys(found, "")
    if len({frozenset(questions) for questions in found.values()}) > 1:
        return marks
    means = {s: float(np.mean([getattr(v, metric) for v in q.values()])) for s, q in found.items() if q}
    ranked = sorted((s for s in means if not np.isnan(means[s])), key=lambda s: -means[s])
    ranks: tuple[tuple[Mark, Mark], ...] = (("best", "near-best"), ("second", "near-second"))
    for mark, near in ranks:
        left = [setting for setting in ranked if not marks[setting]]
        if not left:
            break
        tied = [other for other in left[1:] if not _clearly(differences_by_question(found, left[0], other, metric))]
        for setting in [left[0], *tied]:
            marks[setting] = near if tied else mark
        if tied:
            break
    return marks


def _clearly(values: np.ndarray) -> bool:
    """Whether a difference exceeds its paired standard error; not where that is unknown."""
    return bool(values.size) and paired_mean(values).difference > paired_mean(values).error
