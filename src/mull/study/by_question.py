"""What each setting scored on each question: the rows that paired comparisons of any metric need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from mull.study.metrics import Equivalence, bootstrap, pass_at_k, vote
from mull.study.paired import PairedDifference, paired_mean
from mull.study.records import Sample

RESAMPLES = 10_000
_BLOCK = 500
"""Resamples drawn at once: their counts of 541 questions take 2 MB."""

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
    """Setting → question → its values, of one benchmark; `k` is that of Pass@k, by default the fewest samples that
    any question of the setting has."""
    groups: dict[str, dict[str, list[Sample]]] = {}
    for sample in samples:
        groups.setdefault(sample.setting, {}).setdefault(sample.question, []).append(sample)
    return {
        setting: {
            question: _scored(rows, k or min(map(len, questions.values())), equivalent)
            for question, rows in questions.items()
        }
        for setting, questions in groups.items()
    }


def _scored(rows: Sequence[Sample], k: int, equivalent: Equivalence | None) -> Scored:
    right = [row.correct for row in rows]
    return Scored(
        mean_at_k=sum(right) / len(rows),
        pass_at_k=pass_at_k(len(rows), sum(right), k),
        vote_at_k=vote([row.answer for row in rows], right, equivalent),
        tokens=sum(row.tokens for row in rows) / len(rows),
        think_ratio=sum(row.thinking == "closed" for row in rows) / len(rows),
    )


def differences(found: Mapping[str, Mapping[str, Scored]], a: str, b: str, metric: Metric) -> np.ndarray:
    """Value of setting `a` − that of `b` on each question both answered, [Q], in the questions' order."""
    shared = sorted(found[a].keys() & found[b].keys())
    return np.array([getattr(found[a][q], metric) - getattr(found[b][q], metric) for q in shared], dtype=float)


def bootstrapped(values: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> PairedDifference:
    """Mean of per-question differences `values` [Q] with its paired bootstrap over questions.

    The interval is that of the 2.5 and 97.5 % quantiles of the resampled means d*; p = (1 + #{|d* − d| ≥ |d|})/(R + 1),
    the resamples being centred on no difference (Efron & Tibshirani 1993, An Introduction to the Bootstrap, 16.4;
    Davison & Hinkley 1997, eq. 4.11). All are NaN with fewer than two questions; p is NaN also where every question
    shows the same difference, which no resample can question.
    """
    plain = paired_mean(values) if values.size else PairedDifference(*[float("nan")] * 5, 0)
    if values.size < 2:
        return plain
    blocks = range(0, resamples, _BLOCK)
    drawn = [bootstrap(values.size, min(_BLOCK, resamples - at), seed + at) @ values for at in blocks]
    means = np.concatenate(drawn) / values.size
    low, high = np.quantile(means, [0.025, 0.975])
    # Sums of the same numbers in another order differ in their last digits.
    reach = abs(plain.difference) - 1e-12
    p_value = float((1 + np.sum(np.abs(means - plain.difference) >= reach)) / (resamples + 1))
    if plain.alike and abs(plain.difference) > 1e-12:
        p_value = float("nan")
    return plain._replace(error=float(means.std(ddof=1)), low=float(low), high=float(high), p_value=p_value)
