"""Metrics per setting (a λ, or a merging method) on one benchmark, or on average over several, with standard errors.

Pure functions on `Sample` records; knows no engine, no store, no λ grid. Standard errors are clustered by question,
because the k samples of one question are not independent (Miller 2024, arXiv 2411.00640). A value or an error that
is not defined is NaN. Comparisons of two settings are in `mull.analysis.paired` and re-exported here.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import NamedTuple, get_args

import numpy as np

from mull.analysis.paired import PairedDifference, paired_difference, student
from mull.analysis.records import Sample, by_benchmark
from mull.errors import MullError
from mull.thinking import ThinkingKind
from mull.words import counted

__all__ = [
    "KINDS",
    "Equivalence",
    "Estimate",
    "PairedDifference",
    "SettingMetrics",
    "bootstrap",
    "by_stratum",
    "clustered_mean",
    "clustered_quantile",
    "interval",
    "metrics",
    "paired_difference",
    "pass_at_k",
    "vote",
]

Equivalence = Callable[[str, str], bool]
"""Whether two answer strings mean the same answer."""

KINDS: tuple[ThinkingKind, ...] = get_args(ThinkingKind)


class Estimate(NamedTuple):
    """A value and its standard error, both in the value's own unit; NaN where undefined."""

    value: float
    error: float


@dataclass(frozen=True, kw_only=True)
class SettingMetrics:
    """The metrics of one setting on one benchmark, or their means over several. Shares and accuracies are fractions
    0–1."""

    setting: str
    lam: float | None
    questions: int
    samples: int
    k: int
    """The k of Pass@k: by default the smallest number of samples of a question of this setting."""
    mean_at_k: Estimate
    """Mean correctness over all samples."""
    pass_at_k: Estimate
    """Chance that at least one of k samples is correct, mean over questions; NaN where a question has fewer."""
    vote_at_k: Estimate
    """Majority vote over all samples of a question, mean over questions."""
    tokens: Estimate
    """Mean generated tokens per response, thought included (Token #N)."""
    tokens_p95: Estimate
    """95th percentile of generated tokens per response."""
    think_ratio: Estimate
    """Share of responses whose thought the model closed itself, with `</think>` (Think #R)."""
    thinking: Mapping[ThinkingKind, Estimate]
    """Share of each kind of thinking; together they are 1."""
    truncation: Estimate
    """Share of responses that hit the token limit."""
    unanswered: Estimate
    """Share of responses in which the grader found no answer; most truncated responses are among them."""
    unparsed: Estimate
    """Share of responses in which the grader found no answer or could not read what it found; all are wrong."""


def metrics(
    samples: Sequence[Sample], k: int | None = None, equivalent: Equivalence | None = None
) -> list[SettingMetrics]:
    """The metrics of every setting in `samples`, ordered by λ (settings without λ last), then by label.

    `k` is that of Pass@k. `equivalent` says which answer strings count as one answer in the vote; by default equal
    strings do. Questions may have different numbers of samples (an unfinished run). Raises `MullError` if `k` is
    below 1 or above the number of samples of every question.

    Of several benchmarks each weighs the same, whatever the number of its questions, as in the averages of Wu et al.
    2025 (arXiv 2510.10977): every metric is the mean of theirs. A setting that lacks one of them is left out.
    """
    by_setting: dict[str, list[Sample]] = {}
    for sample in samples:
        by_setting.setdefault(sample.setting, []).append(sample)
    if k is not None:
        _check_k(samples, k)
    benchmarks = {sample.benchmark for sample in samples}
    found = []
    for rows in by_setting.values():
        each = k if k is not None else min(_counts(rows).values())
        parts = [_setting_metrics(own, each, equivalent) for own in by_benchmark(rows).values()]
        found += [_averaged(parts)] if len(parts) == len(benchmarks) else []
    return sorted(found, key=lambda m: (m.lam is None, m.lam or 0.0, by_numbers(m.setting)))


def by_numbers(label: str) -> list[tuple[int, str]]:
    """Sorts as a person does: budget 20 before budget 120."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", label)]


def by_stratum(
    samples: Sequence[Sample], k: int | None = None, equivalent: Equivalence | None = None
) -> dict[str, list[SettingMetrics]]:
    """`metrics` for each stratum of questions (difficulty class), sorted by stratum."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.stratum, []).append(sample)
    return {stratum: metrics(groups[stratum], k, equivalent) for stratum in sorted(groups)}


@lru_cache(maxsize=65536)
def pass_at_k(n: int, correct: int, k: int) -> float:
    """Unbiased Pass@k of one question with `correct` right among `n` samples; NaN where k > n.

    1 − C(n−c, k)/C(n, k) as the stable product 1 − ∏_{i=n−c+1}^{n} (1 − k/i)
    (Chen et al. 2021, arXiv 2107.03374, eq. 1 and figure 3).
    """
    if k > n:
        return math.nan
    if n - correct < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(n - correct + 1, n + 1))


def vote(answers: Sequence[str], correct: Sequence[bool], equivalent: Equivalence | None = None) -> float:
    """Expected correctness of the majority answer of one question, 0–1.

    Votes are counted per class of equivalent answers. A class is as correct as its samples are on average (all or
    none, if grader and equivalence agree). A tie scores the mean over the tied classes: the expected score of a random
    choice among them. Empty answers do not vote; without any vote the score is 0. An equivalence need not be
    transitive: an answer joins the first class, in order of appearance, whose first member it equals.
    """
    tally: dict[str, list[int]] = {}  # first member of a class -> [votes, correct votes]
    seen: dict[str, str] = {}
    for answer, right in zip(answers, correct, strict=True):
        name = answer.strip()
        if not name:
            continue
        if name not in seen:
            same = next((first for first in tally if equivalent(first, name)), name) if equivalent else name
            seen[name] = same
        votes = tally.setdefault(seen[name], [0, 0])
        votes[0] += 1
        votes[1] += right
    if not tally:
        return 0.0
    most = max(votes for votes, _ in tally.values())
    return float(np.mean([right / votes for votes, right in tally.values() if votes == most]))


def clustered_mean(values: np.ndarray, cluster: np.ndarray) -> Estimate:
    """Mean of `values` [N] with its standard error clustered by `cluster` [N] (integers 0…C−1, none left out).

    error² = C/(C−1) · Σ_c (Σ_{i∈c} (v_i − v̄))² / N²: the cluster-robust error of a sample mean (Miller 2024,
    arXiv 2411.00640, eq. 4) with the usual correction for few clusters. With clusters of equal size it is the
    standard error of the C cluster means. NaN with fewer than two clusters.
    """
    values = np.asarray(values, dtype=float)
    if values.size == 0:
        return Estimate(math.nan, math.nan)
    mean = float(values.mean())
    sums = np.bincount(cluster, weights=values - mean)
    if sums.size < 2:
        return Estimate(mean, math.nan)
    return Estimate(mean, float(np.sqrt(sums.size / (sums.size - 1) * (sums**2).sum()) / values.size))


def clustered_quantile(values: np.ndarray, cluster: np.ndarray, share: float) -> Estimate:
    """Quantile `share` (0–1) of `values` [N], its error from the clustered error of the share below it.

    Woodruff 1952 (JASA 47:635): the empirical quantiles at the two 95 % limits of the share; the error is their
    distance / (2·1.96). The upper limit cannot exceed the largest value, so the error of a high percentile over few
    questions tends to be too small.
    """
    values = np.asarray(values, dtype=float)
    value = float(np.quantile(values, share))
    error = clustered_mean(values <= value, cluster).error
    if math.isnan(error):
        return Estimate(value, math.nan)
    low, high = np.quantile(values, np.clip([share - 1.96 * error, share + 1.96 * error], 0.0, 1.0))
    return Estimate(value, float(high - low) / (2 * 1.96))


def interval(estimate: Estimate, questions: int, *, share: bool) -> tuple[float, float]:
    """The 95 % limits of a value that is not negative, by Student's t with `questions` − 1 degrees of freedom.

    NaN without an error. A `share` lies within 0 and 1. Where all n questions have the same share, the error is 0 by
    formula; the limits then allow for a part 1 − 0.025^(1/n) of others (Clopper & Pearson 1934, for n of n).
    """
    value, error = estimate
    if math.isnan(error):
        return math.nan, math.nan
    if share and error < 1e-9:
        others = 1 - 0.025 ** (1 / questions)
        return value * (1 - others), value + (1 - value) * others
    found = student(value, error, questions)
    return max(found.low, 0.0), min(found.high, 1.0) if share else found.high


def bootstrap(questions: int, resamples: int = 200, seed: int = 0) -> np.ndarray:
    """How often each question is drawn in each resample of the questions with replacement: [resamples, questions].

    For sums per question s [questions, …], `bootstrap(…) @ s` gives the resampled sums. The same seed gives the same
    draws.
    """
    return np.random.default_rng(seed).multinomial(questions, np.full(questions, 1 / questions), size=resamples)


def unparsed(sample: Sample) -> bool:
    """Whether the grader found no answer in the response, or could not read it, so that "wrong" says little."""
    return not sample.correct and (not sample.answer.strip() or sample.scores.get("unparsed", 0.0) > 0)


def _check_k(samples: Sequence[Sample], k: int) -> None:
    most = max(_counts(samples).values(), default=0)
    if k < 1 or k > most:
        raise MullError(
            f"k must lie in [1, {most}], got {k}",
            f"no question has more than {counted(most, 'sample')}; sample more or lower k",
        )


def _counts(samples: Sequence[Sample]) -> Counter[tuple[str, str, str]]:
    """Samples of each question under each setting."""
    return Counter((sample.setting, sample.benchmark, sample.question) for sample in samples)


def _averaged(parts: Sequence[SettingMetrics]) -> SettingMetrics:
    """One setting's metrics on average over its benchmarks, whose questions are independent."""
    if len(parts) == 1:
        return parts[0]

    def mean(estimates: Sequence[Estimate]) -> Estimate:
        errors = math.sqrt(sum(each.error**2 for each in estimates))
        return Estimate(sum(each.value for each in estimates) / len(parts), errors / len(parts))

    shared = {f.name: mean([getattr(p, f.name) for p in parts]) for f in fields(SettingMetrics) if f.type == "Estimate"}
    return replace(
        parts[0],
        questions=sum(part.questions for part in parts),
        samples=sum(part.samples for part in parts),
        thinking={kind: mean([part.thinking[kind] for part in parts]) for kind in KINDS},
        **shared,
    )


def _setting_metrics(rows: list[Sample], k: int, equivalent: Equivalence | None) -> SettingMetrics:
    number: dict[str, int] = {}
    cluster = np.array([number.setdefault(row.question, len(number)) for row in rows])
    correct = np.array([row.correct for row in rows], dtype=float)
    tokens = np.array([row.tokens for row in rows], dtype=float)
    counts = np.bincount(cluster)
    hits = np.bincount(cluster, weights=correct)
    passes = np.array([pass_at_k(int(n), int(c), k) for n, c in zip(counts, hits, strict=True)])

    answers: list[list[str]] = [[] for _ in number]
    rights: list[list[bool]] = [[] for _ in number]
    for question, row in zip(cluster.tolist(), rows, strict=True):
        answers[question].append(row.answer)
        rights[question].append(row.correct)
    votes = np.array([vote(a, r, equivalent) for a, r in zip(answers, rights, strict=True)])

    one_each = np.arange(len(number))
    kinds = np.array([row.thinking for row in rows])
    thinking: dict[ThinkingKind, Estimate] = {kind: clustered_mean(kinds == kind, cluster) for kind in KINDS}
    return SettingMetrics(
        setting=rows[0].setting,
        lam=rows[0].lam,
        questions=len(number),
        samples=len(rows),
        k=k,
        mean_at_k=clustered_mean(correct, cluster),
        pass_at_k=clustered_mean(passes, one_each),
        vote_at_k=clustered_mean(votes, one_each),
        tokens=clustered_mean(tokens, cluster),
        tokens_p95=clustered_quantile(tokens, cluster, 0.95),
        think_ratio=thinking["closed"],
        thinking=thinking,
        truncation=clustered_mean(np.array([row.finish == "length" for row in rows]), cluster),
        unanswered=clustered_mean(np.array([not row.answer.strip() for row in rows]), cluster),
        unparsed=clustered_mean(np.array([unparsed(row) for row in rows]), cluster),
    )
