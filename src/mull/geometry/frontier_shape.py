"""The shape of (tokens, accuracy) along λ: where a curve that rises and bends one way would be violated.

Along rising λ, tokens and accuracy should rise (monotonicity), and accuracy should be concave in tokens, so that no λ
lies below the line between its neighbours (convexity of what is below the frontier). Every violation has a bootstrap
interval over questions: one whose interval reaches 0 is within noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np

from mull.analysis.choosing.headroom import Interval
from mull.analysis.metrics import bootstrap
from mull.analysis.records import Sample
from mull.errors import MullError

Kind = Literal["tokens fall", "accuracy falls", "not concave"]
KINDS: tuple[Kind, ...] = ("tokens fall", "accuracy falls", "not concave")
RESAMPLES = 1000


class Violation(NamedTuple):
    """One place at which the curve is not as it should be."""

    kind: Kind
    lams: tuple[float, ...]
    """The two neighbouring λ between which it falls, or the three of which the middle one lies too low."""
    size: Interval
    """How far: in tokens, else in accuracy (a fraction 0–1)."""

    @property
    def supported(self) -> bool:
        """Whether the 95 % interval excludes 0; else the violation is within noise. Each is judged by itself."""
        return self.size.low > 0


class CurvePoint(NamedTuple):
    """Mean@k (0–1) and tokens per response at one λ."""

    lam: float
    accuracy: Interval
    tokens: Interval


class FrontierShape(NamedTuple):
    """The curve of a run and its violations."""

    points: list[CurvePoint]
    violations: list[Violation]
    counts: dict[Kind, Interval]
    """Violations of each kind, with the interval of their number over resamples."""
    questions: int
    """Those that every λ has answered; only they count."""

    @property
    def supported(self) -> list[Violation]:
        return [violation for violation in self.violations if violation.supported]


def frontier_shape(samples: Sequence[Sample], seed: int = 0) -> FrontierShape:
    """The shape of the curve of all settings with a λ.

    Raises:
        MullError: fewer than three λ, or fewer than two questions that all of them have answered.
    """
    by_lam: dict[float, dict[tuple[str, str], list[Sample]]] = {}
    for sample in samples:
        if sample.lam is not None:
            by_lam.setdefault(sample.lam, {}).setdefault((sample.benchmark, sample.question), []).append(sample)
    lams = sorted(by_lam)
    if len(lams) < 3:
        raise MullError(f"the run has {len(lams)} λ, and a curve needs three", "sweep more λ")
    shared = sorted(set.intersection(*(set(answered) for answered in by_lam.values())))
    if len(shared) < 2:
        raise MullError("fewer than two questions were answered at every λ", "let the sweep finish")

    def means(value: Literal["correct", "tokens"]) -> np.ndarray:
        """`[Q, L]`"""
        rows = [[np.mean([getattr(s, value) for s in by_lam[lam][question]]) for lam in lams] for question in shared]
        return np.array(rows, dtype=float)

    weights = np.vstack([np.ones(len(shared)), bootstrap(len(shared), RESAMPLES, seed)]) / len(shared)
    accuracy, tokens = weights @ means("correct"), weights @ means("tokens")
    sizes = violation_sizes(tokens, accuracy)
    places: dict[Kind, list[tuple[float, ...]]] = {
        "tokens fall": list(pairwise(lams)),
        "accuracy falls": list(pairwise(lams)),
        "not concave": list(zip(lams, lams[1:], lams[2:], strict=False)),
    }
    return FrontierShape(
        [CurvePoint(lam, _interval(accuracy[:, i]), _interval(tokens[:, i])) for i, lam in enumerate(lams)],
        [
            Violation(kind, places[kind][i], _interval(sizes[kind][:, i]))
            for kind in KINDS
            for i in np.flatnonzero(sizes[kind][0] > _ROUNDING)
        ],
        {kind: _interval((sizes[kind] > _ROUNDING).sum(-1)) for kind in KINDS},
        len(shared),
    )


_ROUNDING = 1e-9


def violation_sizes(tokens: np.ndarray, accuracy: np.ndarray) -> dict[Kind, np.ndarray]:
    """How far each place of curves `[R, L]` violates the shape; negative or 0 where it does not.

    Of a λ whose tokens do not lie between its neighbours', the line between them says nothing: 0 (the fall of tokens
    counts by itself).
    """
    t, a = (np.moveaxis(values, -1, 0) for values in (tokens, accuracy))
    inside = (t[:-2] < t[1:-1]) & (t[1:-1] < t[2:])
    share = np.where(inside, t[1:-1] - t[:-2], 0.0) / np.where(inside, t[2:] - t[:-2], 1.0)
    below = np.where(inside, (1 - share) * a[:-2] + share * a[2:] - a[1:-1], 0.0)
    falls = {"tokens fall": t[:-1] - t[1:], "accuracy falls": a[:-1] - a[1:], "not concave": below}
    return {kind: np.moveaxis(falls[kind], 0, -1) for kind in KINDS}


def _interval(replicates: np.ndarray) -> Interval:
    return Interval(float(replicates[0]), *map(float, np.quantile(replicates[1:], [0.025, 0.975])))
