"""The frontier of accuracy over tokens: the settings that no other setting dominates.

Dominated settings within one standard error of the frontier are listed, too, because another run may put them on it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from mull.analysis.metrics import Estimate, SettingMetrics
from mull.analysis.paired import paired_difference
from mull.analysis.records import Sample


class Point(NamedTuple):
    """One setting: accuracy (fraction 0–1) and mean generated tokens per response."""

    setting: str
    accuracy: Estimate
    tokens: Estimate


class Near(NamedTuple):
    """A dominated setting that is within one standard error of the frontier."""

    point: Point
    dominated_by: str
    note: str


class Frontier(NamedTuple):
    """The settings on the frontier and the dominated ones near it, each sorted by tokens."""

    points: list[Point]
    near: list[Near]


def points_of(metrics: Sequence[SettingMetrics]) -> list[Point]:
    """Mean@k and Token #N of every setting."""
    return [Point(m.setting, m.mean_at_k, m.tokens) for m in metrics]


def dominates(a: Point, b: Point) -> bool:
    """Whether `a` has at least the accuracy of `b` and at most its tokens, and is better in one of the two."""
    no_worse = a.accuracy.value >= b.accuracy.value and a.tokens.value <= b.tokens.value
    return no_worse and (a.accuracy.value > b.accuracy.value or a.tokens.value < b.tokens.value)


def non_dominated(points: Sequence[Point], samples: Sequence[Sample] | None = None) -> Frontier:
    """The settings that no other one dominates; points with a NaN accuracy or tokens are left out.

    A dominated setting is near if each frontier setting that dominates it is ahead in accuracy or in tokens by at most
    one standard error of the difference. The error is paired by question if `samples` are given; else the two settings
    count as independent.
    """
    known = [p for p in points if not (math.isnan(p.accuracy.value) or math.isnan(p.tokens.value))]
    known.sort(key=lambda p: (p.tokens.value, -p.accuracy.value))
    best = [p for p in known if not any(dominates(other, p) for other in known)]
    near = []
    for p in known:
        over = [other for other in best if dominates(other, p)]
        notes = [_closeness(other, p, samples) for other in over]
        if over and all(notes):
            near.append(Near(p, over[0].setting, notes[0]))
    return Frontier(best, near)


def _closeness(over: Point, under: Point, samples: Sequence[Sample] | None) -> str:
    """A note on how `under` is within one standard error of `over`; empty if it is not."""
    notes = []
    deficit, error = _difference(over, under, "correct", samples)
    if deficit <= error:
        notes.append(f"{100 * deficit:.2f} ± {100 * error:.2f} points of accuracy")
    deficit, error = _difference(over, under, "tokens", samples)
    if deficit <= error:
        notes.append(f"{deficit:,.1f} ± {error:,.1f} tokens")
    return f"within one standard error of {over.setting}: " + " and ".join(notes) if notes else ""


def _difference(
    over: Point, under: Point, value: Literal["correct", "tokens"], samples: Sequence[Sample] | None
) -> tuple[float, float]:
    """How much worse `under` is than `over` (never negative), and the standard error of that."""
    if value == "correct":
        a, b = over.accuracy, under.accuracy
        deficit = a.value - b.value
    else:
        a, b = over.tokens, under.tokens
        deficit = b.value - a.value
    if samples is None:
        return deficit, math.hypot(a.error, b.error)
    return deficit, paired_difference(samples, over.setting, under.setting, value).error


def concave_hull(tokens_S: np.ndarray, accuracy_S: np.ndarray) -> list[int]:
    """Indices of the settings on the upper concave hull of accuracy over tokens, by rising tokens and accuracy.

    The lines between two of them are the mixtures of both. The hull ends at the most accurate setting.
    """
    corners: list[int] = []
    for i in sorted(range(len(tokens_S)), key=lambda i: (tokens_S[i], -accuracy_S[i])):
        if corners and accuracy_S[i] <= accuracy_S[corners[-1]]:
            continue
        while len(corners) > 1:
            a, b = corners[-2:]
            slope = (accuracy_S[b] - accuracy_S[a]) / (tokens_S[b] - tokens_S[a])
            if (accuracy_S[i] - accuracy_S[a]) < slope * (tokens_S[i] - tokens_S[a]):
                break
            corners.pop()
        corners.append(i)
    return corners
