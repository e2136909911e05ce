"""Exact order statistics of |model − base| over any number of elements, in bounded memory and about one pass.

A sample brackets the wanted size; one pass collects what lies in the bracket and counts what lies above it. Should the
sample have misled, the bracket moves and another pass follows, so that the result never depends on luck.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mull.errors import MullError
from mull.merging import compiled
from mull.merging.source import BLOCK, Each, Source, in_turn

ROOM = 1 << 22
"""Sizes that are collected at most, 16 MB."""
FEW = 1 << 16
"""Sizes that are all collected, without a sample."""
_SAMPLE = 1 << 17
_SAMPLED_BLOCKS = 16
_WIDTHS = (6, 30, 150)
"""Half the widths of the brackets in standard errors of the sample's quantile, were its elements independent."""

Collect = Callable[[float, float], tuple[NDArray[np.float32], int, int]]
"""Of all sizes: (those in [low, high], as far as there is room; how many lie there; how many lie above)."""


def largest_kept(count: int, density: float) -> int:
    """How many of `count` elements a share `density` of them is: rounded down, but at least one."""
    return max(1, math.floor(density * count + 1e-9))


def kth_largest(sources: list[Source], model: int, k: int, each: Each = in_turn) -> float:
    """The k-th largest |model − base| over all elements of all sources, compared in float32 (k counts from 1)."""
    count = sum(source.count for source in sources)

    def collect(low: float, high: float) -> tuple[NDArray[np.float32], int, int]:
        found = each(lambda source: _collect(source, model, low, high), sources)
        values = np.concatenate([values for values, _, _ in found])[:ROOM]
        return values, sum(within for _, within, _ in found), sum(above for _, _, above in found)

    return _select(collect, k, [(0.0, math.inf)] if count <= FEW else _brackets(sources, model, count, k, each))


def _collect(source: Source, model: int, low: float, high: float) -> tuple[NDArray[np.float32], int, int]:
    values, within, above = np.empty(min(ROOM, source.count), np.float32), 0, 0
    for models, base in source.blocks(only=model):
        found, larger = _sizes(models[0], base, low, high, values[min(within, len(values)) :])
        within, above = within + found, above + larger
    return values[: min(within, len(values))], within, above


def _select(collect: Collect, k: int, brackets: list[tuple[float, float]]) -> float:
    """Tries the brackets, each wider than the one before; then halves what is left."""
    lower, upper = 0.0, math.inf  # the wanted size lies in [lower, upper], the bracket within that
    low, high = brackets.pop(0)
    by_values = True
    while True:
        values, within, above = collect(low, high)
        if above >= k or above + within < k:
            if above >= k:
                lower = _next(high, math.inf)
            else:
                upper = _next(low, -math.inf)
            low, high = brackets.pop(0) if brackets else (lower, upper)
            low, high = max(low, lower), min(high, upper)
            if lower > upper:
                raise MullError("a tensor has elements that are no numbers (NaN)", "they have no size to select by")
        elif low == high:
            return low
        elif within > len(values):
            lower, upper = low, high
            low = _middle(low, high, values if by_values else None)
            by_values = not by_values
            brackets.clear()
        else:
            place = within - (k - above)
            return float(np.partition(values, place)[place])


def _middle(low: float, high: float, values: NDArray[np.float32] | None) -> float:
    """A size in (low, high] that parts what was seen between them, or what numbers there are: those end for certain."""
    if values is None:
        ends = np.array([low, high], np.float32).view(np.int32).tolist()
        middle = float(np.array([sum(ends) // 2], np.int32).view(np.float32)[0])
    else:
        middle = float(np.median(values))
    middle = middle if low < middle <= high else low
    return min(_next(middle, math.inf), high)


def _brackets(sources: list[Source], model: int, count: int, k: int, each: Each) -> list[tuple[float, float]]:
    every = max(1, count // (BLOCK * _SAMPLED_BLOCKS))
    step = max(1, count // every // _SAMPLE)
    sizes = each(lambda source: _sample(source, model, every, step), sources)
    sample = np.sort(np.concatenate([part for parts in sizes for part in parts]))
    sample = sample[~np.isnan(sample)]
    if not len(sample):
        return [(0.0, math.inf)]
    place = len(sample) * (1 - k / count)
    error = math.sqrt(max(place * (1 - place / len(sample)), 1))
    brackets = []
    for width in _WIDTHS:
        first, last = math.floor(place - width * error), math.ceil(place + width * error)
        low, high = float(sample[max(first, 0)]), float(sample[min(last, len(sample) - 1)])
        brackets.append((low if first >= 0 else 0.0, high if last < len(sample) else math.inf))
    return brackets


def _sample(source: Source, model: int, every: int, step: int) -> list[NDArray[np.float32]]:
    sizes = []
    for models, base in source.blocks(every, only=model):
        part = models[0][::step].double()
        sizes.append((part if base is None else part - base[::step].double()).abs().float().numpy(force=True))
    return sizes


def _sizes(model: Tensor, base: Tensor | None, low: float, high: float, out: NDArray[np.float32]) -> tuple[int, int]:
    """Writes sizes within [low, high] to `out` while there is room; how many lie within and above."""
    if compiled.applies(model) and (base is None or compiled.applies(base)):
        origin = None if base is None else compiled.memory(base)
        return compiled.kernels.sizes(compiled.memory(model), origin, low, high, out)
    sizes = (model.double() if base is None else model.double() - base.double()).abs().float()
    within = sizes[(sizes >= low) & (sizes <= high)].numpy(force=True)
    out[: len(within)] = within[: len(out)]
    return len(within), int((sizes > high).sum())


def _next(value: float, towards: float) -> float:
    return float(np.nextafter(np.float32(value), np.float32(towards)))
