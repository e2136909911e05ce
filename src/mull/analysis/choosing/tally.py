"""A run's samples as sums per setting and question, which is all that choosing needs, and their bootstrap.

Axes: S settings, Q questions, R resamples, B benchmarks. Knows no sampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from mull.analysis.choosing.options import Goal
from mull.analysis.metrics import bootstrap
from mull.analysis.paired import PairedDifference, stratified_mean
from mull.analysis.records import Sample
from mull.errors import MullError


class Resampled(NamedTuple):
    """What each resample of the questions gives: arrays [R, S], NaN where it drew no question of a setting."""

    accuracy: np.ndarray
    tokens: np.ndarray
    within: np.ndarray


@dataclass(frozen=True)
class Tally:
    """Sums over the samples of each setting and question, arrays [S, Q]; 0 where there are none."""

    settings: tuple[str, ...]
    lams: tuple[float | None, ...]
    count: np.ndarray
    correct: np.ndarray
    tokens: np.ndarray
    within: np.ndarray
    """Responses within the goal's budget."""
    groups: tuple[np.ndarray, ...]
    """Of each benchmark, which questions are its own [Q]."""
    shares: np.ndarray
    """The weights of the benchmarks [B], with the sum 1."""

    @classmethod
    def of(cls, samples: Sequence[Sample], goal: Goal) -> Tally:
        """The tally of samples, settings by rising λ, those without λ last.

        Raises `MullError` for no samples, and for a weight of a benchmark that they are not of.
        """
        if not samples:
            raise MullError("no samples to choose by", "sweep first, or give --instruct and --thinking")
        lams = {sample.setting: sample.lam for sample in samples}
        settings = sorted(lams, key=lambda name: (lams[name] is None, lams[name] or 0.0, name))
        row = {name: i for i, name in enumerate(settings)}
        column = {key: i for i, key in enumerate(sorted({(sample.benchmark, sample.question) for sample in samples}))}
        benchmarks = list(dict.fromkeys(benchmark for benchmark, _ in column))
        where = (
            np.array([row[sample.setting] for sample in samples]),
            np.array([column[sample.benchmark, sample.question] for sample in samples]),
        )
        tokens = np.array([sample.tokens for sample in samples], dtype=float)

        def sums(values: Sequence[float] | np.ndarray) -> np.ndarray:
            summed_SQ = np.zeros((len(row), len(column)))
            np.add.at(summed_SQ, where, values)
            return summed_SQ

        return cls(
            tuple(settings),
            tuple(lams[name] for name in settings),
            sums(np.ones(len(samples))),
            sums([float(sample.correct) for sample in samples]),
            sums(tokens),
            sums((tokens <= (np.inf if goal.budget is None else goal.budget)).astype(float)),
            tuple(np.array([benchmark == name for benchmark, _ in column]) for name in benchmarks),
            goal.shares(benchmarks),
        )

    @cached_property
    def samples(self) -> np.ndarray:
        """Samples of each setting in each benchmark [B, S]."""
        return np.array([self.count[:, group_Q].sum(axis=1) for group_Q in self.groups])

    def resample(self, resamples: int = 500, seed: int = 0) -> Resampled:
        """Smoothed bootstrap over the questions of each benchmark, the same questions for every setting, so that
        differences stay paired.

        Shares get normal noise with the weight of one response, 1/N: without it N right answers out of N would be
        right in every resample, which is not what they show.
        """
        noise = np.random.default_rng([seed, 1])
        found_3RS = np.zeros((3, resamples, len(self.settings)))
        with np.errstate(invalid="ignore", divide="ignore"):
            for number, (group_Q, share) in enumerate(zip(self.groups, self.shares, strict=True)):
                drawn_RQ = bootstrap(int(group_Q.sum()), resamples, seed + number)
                count_RS = drawn_RQ @ self.count[:, group_Q].T
                for i, sums_SQ in enumerate((self.correct, self.tokens, self.within)):
                    found_3RS[i] += share * (drawn_RQ @ sums_SQ[:, group_Q].T / count_RS)
            least_S = np.sqrt(((self.shares[:, None] / self.samples) ** 2).sum(axis=0))
            smooth_2RS = noise.standard_normal((2, *found_3RS.shape[1:])) * least_S
        accuracy, tokens, within = found_3RS
        return Resampled(accuracy + smooth_2RS[0], tokens, within + smooth_2RS[1])

    def accuracy_difference(self, a: int, b: int) -> PairedDifference:
        """Accuracy of setting `a` − that of `b` over shared questions; the error at least one response's weight.

        All intervals here are NaN with fewer than two shared questions.
        """
        fewer_B = np.maximum(np.minimum(self.samples[:, a], self.samples[:, b]), 1)
        return self._difference(self.correct, a, b, float(np.sqrt(((self.shares / fewer_B) ** 2).sum())))

    def token_difference(self, a: int, b: int) -> PairedDifference:
        """Mean tokens per response of setting `a` − those of `b` over shared questions."""
        return self._difference(self.tokens, a, b, 0.0)

    def _difference(self, sums: np.ndarray, a: int, b: int, least: float) -> PairedDifference:
        differences = []
        for group_Q in self.groups:
            shared = np.flatnonzero((self.count[a] > 0) & (self.count[b] > 0) & group_Q)
            means = [sums[s, shared] / self.count[s, shared] for s in (a, b)]
            differences.append(means[0] - means[1])
        found = stratified_mean(differences, list(self.shares))
        return found.corrected(least_error=least if a != b else 0.0)
