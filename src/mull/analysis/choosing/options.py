"""`Goal`: what the chosen setting has to fulfil; `Option`: a setting to choose from.

The rule of choosing is in `mull.analysis.choosing.choose`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import stdtr

from mull.analysis.metrics import Estimate, by_numbers, clustered_mean, clustered_quantile
from mull.analysis.records import Sample, by_benchmark
from mull.errors import MullError, nearest

ROUNDING = 1e-9
TOLERANCE = 0.01
"""Smaller differences do not matter: in accuracy (0–1), or in tokens as a fraction of the chosen setting's."""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """Either the highest accuracy within a `budget` of tokens, or the fewest tokens with at least `min_accuracy`."""

    budget: float | None = None
    """Most tokens per response."""
    quantile: float | None = None
    """This share of the responses must be within `budget`; None: the mean must be."""
    min_accuracy: float | None = None
    """Least Mean@k, 0–1."""
    weights: Mapping[str, float] | None = field(default=None, hash=False)
    """Benchmark → its weight in means over several; those that are not named, and without any all, weigh 1."""

    def __post_init__(self) -> None:
        for name, weight in (self.weights or {}).items():
            if not 0 < weight < math.inf:
                raise MullError(f"the weight of {name} must be positive and finite, got {weight:g}", "as in 2")
        if (self.budget is None) == (self.min_accuracy is None):
            raise MullError("a choice needs a budget or a floor", "give either --budget or --min-accuracy")
        if self.budget is not None and not 0 < self.budget < math.inf:
            raise MullError(
                f"the budget must be positive and finite, got {self.budget:g}", "tokens per response, as in 1500"
            )
        if self.min_accuracy is not None and not 0 <= self.min_accuracy <= 1:
            raise MullError(f"min-accuracy must lie in [0, 1], got {self.min_accuracy:g}", "0.8 stands for 80 %")
        if self.quantile is not None and self.budget is None:
            raise MullError("a quantile belongs to a budget of tokens", "give --budget too")
        if self.quantile is not None and not 0 < self.quantile < 1:
            raise MullError(
                f"the quantile must lie in (0, 1), got {self.quantile:g}", "0.95 = all but 5 % of responses"
            )

    def shares(self, benchmarks: Sequence[str]) -> np.ndarray:
        """The weights of these benchmarks, with the sum 1. Raises `MullError` for a weight of another one."""
        given = self.weights or {}
        for name in given:
            if name not in benchmarks:
                what = f"a weight is given for {name!r}, which is no benchmark of the samples"
                raise MullError(what, nearest(name, benchmarks))
        weights = np.array([given.get(name, 1.0) for name in benchmarks])
        return weights / weights.sum()

    def value(self, accuracy: Any, tokens: Any) -> Any:
        """What to maximise: accuracy (0–1), or minus tokens; numbers or arrays."""
        return accuracy if self.min_accuracy is None else -tokens

    def second(self, accuracy: Any, tokens: Any) -> Any:
        """What to maximise among settings of equal value: minus tokens, or accuracy."""
        return -tokens if self.min_accuracy is None else accuracy

    def slack(self, accuracy: Any, tokens: Any, within: Any) -> Any:
        """By how much the constraint is met, negative if it is missed: tokens, or a share 0–1; numbers or arrays.

        `within`: share of the responses within the budget. The q-quantile is at most the budget if and only if this
        share is at least q.
        """
        if self.budget is None:
            return accuracy - self.min_accuracy
        return self.budget - tokens if self.quantile is None else within - self.quantile

    def tolerance(self, tokens: float) -> float:
        """The largest difference of values that does not matter, for a setting with this mean of tokens."""
        return TOLERANCE if self.min_accuracy is None else TOLERANCE * tokens

    def words(self) -> str:
        """The goal in words, e.g. "at most 1,500 tokens on average"."""
        if self.budget is None:
            return f"at least {100 * (self.min_accuracy or 0):g} % right"
        how = "on average" if self.quantile is None else f"in {100 * self.quantile:g} % of responses"
        return f"at most {self.budget:,g} tokens {how}"


@dataclass(frozen=True, kw_only=True)
class Option:
    """One setting to choose from, with standard errors clustered by question."""

    setting: str
    lam: float | None
    accuracy: Estimate
    """Mean@k, 0–1."""
    tokens: Estimate
    """Mean per response."""
    cost: Estimate
    """The tokens that a budget bounds: the mean, or the quantile."""
    slack: Estimate
    """`Goal.slack`: the setting meets the constraint if this is not negative."""
    samples: int = 0
    questions: int = 0
    fewest: int = 0
    """Questions of its smallest benchmark."""

    @property
    def feasible(self) -> bool:
        """Whether the estimate meets the constraint."""
        return self.slack.value >= -ROUNDING

    @property
    def chance(self) -> float:
        """Probability 0–1 that the constraint is met, by Student's t on the slack; NaN without an error."""
        value, error = self.slack
        if math.isnan(error) or self.fewest < 2:
            return math.nan
        return float(stdtr(self.fewest - 1, value / error)) if error > 0 else float(self.feasible)


def measure(samples: Sequence[Sample], goal: Goal) -> list[Option]:
    """Every setting as an option, sorted by λ, those without λ last. Of several benchmarks every setting has some."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.setting, []).append(sample)
    found = [option_of(rows, goal) for rows in groups.values()]
    return sorted(found, key=lambda o: (o.lam is None, o.lam or 0.0, by_numbers(o.setting)))


def option_of(rows: Sequence[Sample], goal: Goal) -> Option:
    """The samples of one setting as an option. (For `Choice.fresh`: of the setting chosen for each question.)

    Of several benchmarks, means and shares are weighted means of theirs, and the quantile is that of their mixture.
    """
    parts = by_benchmark(rows)
    shares = goal.shares(list(parts))
    clusters = []
    for own in parts.values():
        number: dict[str, int] = {}
        clusters.append(np.array([number.setdefault(row.question, len(number)) for row in own]))
    right = [np.array([row.correct for row in own], dtype=float) for own in parts.values()]
    tokens = [np.array([row.tokens for row in own], dtype=float) for own in parts.values()]

    def mean_of(estimate: Callable[[np.ndarray, np.ndarray], Estimate], values: Sequence[np.ndarray]) -> Estimate:
        return _weighted(list(map(estimate, values, clusters)), shares)

    accuracy, mean = mean_of(_share, right), mean_of(clustered_mean, tokens)
    within, cost = Estimate(math.nan, math.nan), mean
    if goal.quantile is not None:
        within = mean_of(_share, [own <= (goal.budget or 0.0) for own in tokens])
        cost = _quantile(tokens, clusters, shares, goal.quantile)
    constrained = mean if goal.quantile is None else within
    return Option(
        setting=rows[0].setting,
        lam=rows[0].lam,
        accuracy=accuracy,
        tokens=mean,
        cost=cost,
        slack=Estimate(
            goal.slack(accuracy.value, mean.value, within.value),
            accuracy.error if goal.budget is None else constrained.error,
        ),
        samples=len(rows),
        questions=sum(int(own.max()) + 1 for own in clusters),
        fewest=min(int(own.max()) + 1 for own in clusters),
    )


def _weighted(parts: Sequence[Estimate], shares: np.ndarray) -> Estimate:
    if len(parts) == 1:
        return parts[0]
    values, errors = (np.array(column) for column in zip(*parts, strict=True))
    return Estimate(float(shares @ values), float(np.sqrt(((shares * errors) ** 2).sum())))


def _quantile(
    tokens: Sequence[np.ndarray], clusters: Sequence[np.ndarray], shares: np.ndarray, share: float
) -> Estimate:
    """The quantile of the mixture of several benchmarks, with Woodruff's error (see `clustered_quantile`)."""
    every = np.concatenate(tokens)
    if len(tokens) == 1:
        value = float(np.quantile(every, share, method="inverted_cdf"))
        return Estimate(value, clustered_quantile(every, clusters[0], share).error)
    weights = np.concatenate([np.full(own.size, part / own.size) for own, part in zip(tokens, shares, strict=True)])

    def at(place: float) -> float:
        return float(np.quantile(every, np.clip(place, 0.0, 1.0), method="inverted_cdf", weights=weights))

    value = at(share)
    below = [clustered_mean(own <= value, cluster) for own, cluster in zip(tokens, clusters, strict=True)]
    error = _weighted(below, shares).error
    if math.isnan(error):
        return Estimate(value, math.nan)
    return Estimate(value, (at(share + 1.96 * error) - at(share - 1.96 * error)) / (2 * 1.96))


def _share(values: np.ndarray, cluster: np.ndarray) -> Estimate:
    """A share with its clustered error, which is at least 1/N for N responses: all of N responses is not certainty."""
    share = clustered_mean(values, cluster)
    return Estimate(share.value, max(share.error, 1 / values.size) if not math.isnan(share.error) else math.nan)
