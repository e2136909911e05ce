"""A run's samples as sums per setting and question, which is all that choosing needs, and their bootstrap.

Axes: S settings, Q questions, R resamples. Knows no goal and no sampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from mull.analysis.metrics import bootstrap
from mull.analysis.paired import PairedDifference, paired_mean
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
    """Responses of at most `limit` tokens."""

    @classmethod
    def of(cls, samples: Sequence[Sample], limit: float | None = None) -> Tally:
        """The tally of one benchmark's samples, settings by rising λ, those without λ last.

        Raises `MullError` for no samples and for samples of several benchmarks.
        """
        if not samples:
            raise MullError("no samples to choose by", "sweep first, or give --instruct and --thinking")
        benchmarks = sorted({sample.benchmark for sample in samples})
        if len(benchmarks) > 1:
            raise MullError(f"λ is chosen for one benchmark, got {', '.join(benchmarks)}", "give them one at a time")
        lams = {sample.setting: sample.lam for sample in samples}
        settings = sorted(lams, key=lambda name: (lams[name] is None, lams[name] or 0.0, name))
        row = {name: i for i, name in enumerate(settings)}
        column = {name: i for i, name in enumerate(sorted({sample.question for sample in samples}))}
        where = (
            np.array([row[sample.setting] for sample in samples]),
            np.array([column[sample.question] for sample in samples]),
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
            sums((tokens <= (np.inf if limit is None else limit)).astype(float)),
        )

    @cached_property
    def samples(self) -> np.ndarray:
        """Samples of each setting [S]."""
        return self.count.sum(axis=1)

    def resample(self, resamples: int = 500, seed: int = 0) -> Resampled:
        """Smoothed bootstrap over questions, the same questions for every setting, so that differences stay paired.

        Shares get normal noise with the weight of one response, 1/N: without it N right answers out of N would be
        right in every resample, which is not what they show.
        """
        drawn_RQ = bootstrap(self.count.shape[1], resamples, seed)
        noise = np.random.default_rng([seed, 1])
        with np.errstate(invalid="ignore", divide="ignore"):
            count_RS = drawn_RQ @ self.count.T
            accuracy, tokens, within = (
                drawn_RQ @ sums_SQ.T / count_RS for sums_SQ in (self.correct, self.tokens, self.within)
            )
            smooth_2RS = noise.standard_normal((2, *count_RS.shape)) / self.samples
        return Resampled(accuracy + smooth_2RS[0], tokens, within + smooth_2RS[1])

    def accuracy_difference(self, a: int, b: int) -> PairedDifference:
        """Accuracy of setting `a` − that of `b` over shared questions; the error at least one response's weight.

        All intervals here are NaN with fewer than two shared questions.
        """
        return self._difference(self.correct, a, b, 1 / max(min(self.samples[a], self.samples[b]), 1))

    def token_difference(self, a: int, b: int) -> PairedDifference:
        """Mean tokens per response of setting `a` − those of `b` over shared questions."""
        return self._difference(self.tokens, a, b, 0.0)

    def _difference(self, sums: np.ndarray, a: int, b: int, least: float) -> PairedDifference:
        shared = np.flatnonzero((self.count[a] > 0) & (self.count[b] > 0))
        means = [sums[s, shared] / self.count[s, shared] for s in (a, b)]
        return paired_mean(means[0] - means[1]).corrected(least_error=least if a != b else 0.0)
