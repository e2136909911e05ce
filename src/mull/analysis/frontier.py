"""The frontier of accuracy over tokens: which settings no other one beats on both.

Knows points with errors, not where they come from. A dominated setting within one standard error of the frontier is
named, because the next run may put it there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from mull.analysis.metrics import Estimate, SettingMetrics
from mull.analysis.paired import paired_difference
from mull.analysis.records import Sample


class Point(NamedTuple):
    """One setting: accuracy (fraction 0–1) and mean generated tokens per response."""

    setting: str
    accuracy: Estimate
    tokens: Estimate


class Near(NamedTuple):
    """A dominated setting that lies within one standard error of not being dominated."""

    point: Point
    dominated_by: str
    note: str


class Frontier(NamedTuple):
    """The settings on the frontier and the dominated ones near it, both by rising tokens."""

    points: list[Point]
    near: list[Near]


def points_of(metrics: Sequence[SettingMetrics]) -> list[Point]:
    """Mean@k and Token #N of every setting."""
    return [Point(m.setting, m.mean_at_k, m.tokens) for m in metrics]


def dominates(a: Point, b: Point) -> bool:
    """Whether `a` is at least as accurate as `b` for no more tokens, and strictly better in one of the two."""
    no_worse = a.accuracy.value >= b.accuracy.value and a.tokens.value <= b.tokens.value
    return no_worse and (a.accuracy.value > b.accuracy.value or a.tokens.value < b.tokens.value)


def non_dominated(points: Sequence[Point], samples: Sequence[Sample] | None = None) -> Frontier:
    """The settings that no other one dominates; points with a NaN accuracy or tokens are left out.

    A dominated setting is near if, against each frontier setting that dominates it, its deficit in accuracy or in
    tokens is at most one standard error of that difference: paired by question where `samples` are given, else as if
    the two were independent.
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
    """How `under` lies within one standard error of `over`, in words; empty if it does not."""
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
    """How much worse `under` is (never negative), and the standard error of that."""
    if value == "correct":
        a, b = over.accuracy, under.accuracy
        deficit = a.value - b.value
    else:
        a, b = over.tokens, under.tokens
        deficit = b.value - a.value
    if samples is None:
        return deficit, math.hypot(a.error, b.error)
    return deficit, paired_difference(samples, over.setting, under.setting, value).error
