"""Differences between two settings, paired on the questions both of them answered.

Pairing removes what the questions have in common (some are hard for every λ), so it tells two settings apart with
fewer samples than their own errors suggest (Miller 2024, arXiv 2411.00640, section 4).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

from mull.analysis.records import Sample
from mull.errors import MullError, nearest


class PairedDifference(NamedTuple):
    """Value of one setting minus that of another, in the value's unit; limits are those of the 95 % interval."""

    difference: float
    error: float
    low: float
    high: float
    p_value: float
    """Two-sided, of no difference; not corrected for having looked at several pairs."""
    questions: int

    @property
    def tie(self) -> bool:
        """Whether the 95 % interval holds 0, or is not defined."""
        return not (self.low > 0 or self.high < 0)

    @property
    def alike(self) -> bool:
        """Whether every question shows this same difference: the error is then 0 by formula, which is not certainty."""
        return self.error < 1e-9


def paired_difference(
    samples: Sequence[Sample], a: str, b: str, value: Literal["correct", "tokens"] = "correct"
) -> PairedDifference:
    """Mean over the shared questions of (setting `a` − setting `b`), each question weighing the same.

    A question's value is its mean over the samples at hand, so the samples of the two settings may differ in number.
    The error is that of the mean of the differences over questions, the interval and the p-value use Student's t with
    questions − 1 degrees of freedom; all three are NaN with one shared question. Raises `MullError` for an unknown
    setting and where no question is shared.
    """
    means = {setting: _question_means(samples, setting, value) for setting in (a, b)}
    for setting, found in means.items():
        if not found:
            known = nearest(setting, {sample.setting for sample in samples})
            raise MullError(f"no samples of setting {setting!r}", known)
    shared = sorted(means[a].keys() & means[b].keys())
    if not shared:
        raise MullError(
            f"settings {a!r} and {b!r} share no question", "a paired difference needs both on the same questions"
        )
    return paired_mean(np.array([means[a][question] - means[b][question] for question in shared]))


def paired_mean(differences: np.ndarray) -> PairedDifference:
    """Mean of per-question `differences` [Q] with Student's t interval and two-sided p-value."""
    n = differences.size
    mean = float(differences.mean())
    if n < 2:
        return PairedDifference(mean, math.nan, math.nan, math.nan, math.nan, n)
    error = float(differences.std(ddof=1) / math.sqrt(n))
    reach = float(stdtrit(n - 1, 0.975)) * error
    statistic = abs(mean) / error if error > 0 else (math.inf if mean else 0.0)
    p_value = float(2 * stdtr(n - 1, -statistic))
    return PairedDifference(mean, error, mean - reach, mean + reach, p_value, n)


class Contrast(NamedTuple):
    """How one setting differs from another."""

    setting: str
    reference: str
    accuracy: PairedDifference
    tokens: PairedDifference
    p_value: float
    """Of no difference in accuracy, corrected by Holm's method for all that were compared with it."""


def contrasts(samples: Sequence[Sample], reference: str) -> list[Contrast]:
    """Every other setting against `reference`, in the order of the samples. Raises `MullError` as `compare`."""
    settings = dict.fromkeys(sample.setting for sample in samples)
    return compare(samples, [(setting, reference) for setting in settings if setting != reference])


def compare(samples: Sequence[Sample], pairs: Sequence[tuple[str, str]]) -> list[Contrast]:
    """The first of each pair of settings less the second; pairs that share no question are left out.

    Raises `MullError` for an unknown setting.
    """
    by_setting: dict[str, list[Sample]] = {}
    for sample in samples:
        by_setting.setdefault(sample.setting, []).append(sample)
    asked = {setting: {sample.question for sample in own} for setting, own in by_setting.items()}
    for setting in {setting for pair in pairs for setting in pair} - asked.keys():
        raise MullError(f"no samples of setting {setting!r}", nearest(setting, asked))
    kept = [(a, b) for a, b in pairs if asked[a] & asked[b]]
    both = [(paired_difference(by_setting[a] + by_setting[b], a, b), a, b) for a, b in kept]
    adjusted = holm([accuracy.p_value for accuracy, _, _ in both])
    return [
        Contrast(a, b, accuracy, paired_difference(by_setting[a] + by_setting[b], a, b, "tokens"), p_value)
        for (accuracy, a, b), p_value in zip(both, adjusted, strict=True)
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979, Scand. J. Statist. 6, 65–70); NaN stays and does not count."""
    order = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    adjusted = list(p_values)
    least = 0.0
    for rank, (p, i) in enumerate(order):
        least = max(least, min(1.0, p * (len(order) - rank)))
        adjusted[i] = least
    return adjusted


def _question_means(samples: Sequence[Sample], setting: str, value: str) -> dict[tuple[str, str], float]:
    sums: dict[tuple[str, str], tuple[float, int]] = {}
    for sample in samples:
        if sample.setting == setting:
            total, count = sums.get((sample.benchmark, sample.question), (0.0, 0))
            sums[sample.benchmark, sample.question] = (total + float(getattr(sample, value)), count + 1)
    return {question: total / count for question, (total, count) in sums.items()}
