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
    """Two-sided, of no difference."""
    questions: int
    share: bool = False
    """Whether the value is a share of 0–1, so that the difference lies within −1 and 1."""
    freedom: float | None = None
    """Degrees of freedom of Student's t; None: questions − 1."""

    @property
    def tie(self) -> bool:
        """Whether the 95 % interval holds 0, or is not defined."""
        return not (self.low > 0 or self.high < 0)

    @property
    def alike(self) -> bool:
        """Whether every question shows this same difference: the error is then 0 by formula, which is not certainty."""
        return self.error < _ALIKE

    def corrected(self, comparisons: int = 1, *, least_error: float = 0.0) -> PairedDifference:
        """This difference as one picked among so many: 95 % interval and p-value by Bonferroni's correction.

        The error counts as at least `least_error`.
        """
        error = max(self.error, least_error) if not math.isnan(self.error) else self.error
        own = {"share": self.share, "freedom": self.freedom}
        return student(self.difference, error, self.questions, **own, comparisons=comparisons)


_ALIKE = 1e-9


def paired_difference(
    samples: Sequence[Sample], a: str, b: str, value: Literal["correct", "tokens"] = "correct"
) -> PairedDifference:
    """Mean over the shared questions of (setting `a` − setting `b`), each question weighing the same.

    A question's value is the mean over its samples, so the samples of the two settings may differ in number.
    The error is that of the mean of the differences over questions, the interval and the p-value use Student's t with
    questions − 1 degrees of freedom; all three are NaN with one shared question. Of several benchmarks it is the
    difference of the averages over benchmarks (`stratified_mean`). Raises `MullError` for an unknown setting, and where
    no question is shared, or none of some benchmark.
    """
    means = {setting: _question_means(samples, setting, value) for setting in (a, b)}
    for setting, found in means.items():
        if not found:
            known = nearest(setting, {sample.setting for sample in samples})
            raise MullError(f"no samples of setting {setting!r}", known)
    shared: dict[str, list[tuple[str, str]]] = {key[0]: [] for found in means.values() for key in found}
    for key in sorted(means[a].keys() & means[b].keys()):
        shared[key[0]].append(key)
    if not all(shared.values()):
        raise MullError(
            f"settings {a!r} and {b!r} share no question", "a paired difference needs both on the same questions"
        )
    differences = [np.array([means[a][key] - means[b][key] for key in keys]) for keys in shared.values()]
    return stratified_mean(differences, share=value == "correct")


def stratified_mean(
    differences: Sequence[np.ndarray], weights: Sequence[float] | None = None, *, share: bool = False
) -> PairedDifference:
    """Weighted mean over benchmarks of the means of their per-question differences [Q]; equal weights by default.

    Questions of different benchmarks are independent, so that with weights w_b the error is √Σ(w_b·e_b)² (Cochran 1977,
    Sampling Techniques, eq. 5.10); Student's t has Satterthwaite's degrees of freedom, (Σ w_b²e_b²)² / Σ(w_b⁴e_b⁴ /
    (n_b − 1)) (eq. 5.16). Where every question of every benchmark shows the same, it is judged by the smallest one.
    """
    parts = [paired_mean(own, share=share) for own in differences]
    if len(parts) == 1:
        return parts[0]
    shares = np.array(weights or [1.0] * len(parts)) / sum(weights or [1.0] * len(parts))
    variances = (shares * np.array([part.error for part in parts])) ** 2
    spare = np.array([part.questions - 1 for part in parts])
    total = float(variances.sum())
    differ = total > _ALIKE**2
    freedom = float(total**2 / (variances**2 / spare).sum()) if differ else float(spare.min())
    mean = float(shares @ [part.difference for part in parts])
    return student(mean, math.sqrt(total), sum(part.questions for part in parts), share=share, freedom=freedom)


def paired_mean(differences: np.ndarray, *, share: bool = False) -> PairedDifference:
    """Mean of per-question `differences` [Q] with Student's t interval and two-sided p-value.

    All but the mean are NaN with fewer than two questions, and the mean with none. `share`: see `PairedDifference`.
    """
    n = differences.size
    mean = float(differences.mean()) if n else math.nan
    error = float(differences.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan
    return student(mean, error, n, share=share)


def student(
    difference: float,
    error: float,
    questions: int,
    *,
    share: bool = False,
    comparisons: int = 1,
    freedom: float | None = None,
) -> PairedDifference:
    """A difference with a known standard error: interval and p-value by Student's t with `freedom` degrees of freedom,
    by default `questions` − 1, corrected by Bonferroni for the `comparisons`.

    Where all n questions show the same difference d of shares, the error is 0 by formula. But with confidence 1 − α
    only a share 1 − (α/2)^(1/n) of all questions may be others (Clopper & Pearson 1934, for n of n), and those differ
    from d by at most 1 + |d|: that is the interval then, and the p-value is its inverse.
    """
    if math.isnan(error):
        return PairedDifference(difference, error, math.nan, math.nan, math.nan, questions, share, freedom)
    spare = questions - 1 if freedom is None else freedom
    tail = 0.025 / comparisons
    if share and error < _ALIKE:
        most = 1 + abs(difference)
        reach, p_value = most * (1 - tail ** (1 / (spare + 1))), 2 * most ** -(spare + 1)
    else:
        reach = float(stdtrit(spare, 1 - tail)) * error
        statistic = abs(difference) / error if error > 0 else (math.inf if difference else 0.0)
        p_value = float(2 * stdtr(spare, -statistic))
    low, high = difference - reach, difference + reach
    if share:
        low, high = max(low, -1.0), min(high, 1.0)
    return PairedDifference(difference, error, low, high, min(1.0, comparisons * p_value), questions, share, freedom)


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
    """The first of each pair of settings less the second; pairs that share no question, or none of one of several
    benchmarks, are left out.

    Raises `MullError` for an unknown setting.
    """
    by_setting: dict[str, list[Sample]] = {}
    for sample in samples:
        by_setting.setdefault(sample.setting, []).append(sample)
    asked = {setting: {(sample.benchmark, sample.question) for sample in own} for setting, own in by_setting.items()}
    for setting in {setting for pair in pairs for setting in pair} - asked.keys():
        raise MullError(f"no samples of setting {setting!r}", nearest(setting, asked))

    def share(a: str, b: str) -> bool:
        both, either = ({benchmark for benchmark, _ in keys} for keys in (asked[a] & asked[b], asked[a] | asked[b]))
        return both == either

    kept = [(a, b) for a, b in pairs if share(a, b)]
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
