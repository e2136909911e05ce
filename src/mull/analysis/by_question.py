"""The metrics of each setting on each question, for paired comparisons of any metric."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from mull.analysis.metrics import Equivalence, pass_at_k, vote
from mull.analysis.paired import paired_mean
from mull.analysis.records import Sample

Mark = Literal["", "best", "second", "near-best", "near-second"]
"""The result of `leaders` for a setting."""
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
    """Setting → question → metrics, for the samples of one benchmark.

    `k` is that of Pass@k. It is the same for all settings, because Pass@k grows with k. By default `fewest_samples`.
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
    """The smallest number of samples of a question under a setting: the largest k with a Pass@k for all. 0 if empty."""
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
    """Metric of setting `a` − that of `b` on each question that both answered: [Q], sorted by question id."""
    shared = sorted(found[a].keys() & found[b].keys())
    return np.array([getattr(found[a][q], metric) - getattr(found[b][q], metric) for q in shared], dtype=float)


def leaders(found: Mapping[str, Mapping[str, Scored]], metric: Metric) -> dict[str, Mark]:
    """Mark the settings with the highest means over questions. All marks are empty if the settings did not answer the
    same questions, because such means cannot be ranked.

    A setting is "best" only if every lower one is more than one paired standard error below it. Otherwise it and all
    settings within that error are "near-best", and no others get marks. "second" and "near-second" work the same way.
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
        tied = [other for other in left[1:] if not _is_clear(differences_by_question(found, left[0], other, metric))]
        for setting in [left[0], *tied]:
            marks[setting] = near if tied else mark
        if tied:
            break
    return marks


def _is_clear(values: np.ndarray) -> bool:
    """Whether the mean of `values` exceeds its standard error; False if the error is unknown."""
    return bool(values.size) and paired_mean(values).difference > paired_mean(values).error
