"""Exact order statistics of sizes such as |model − base|, over any number of elements, in bounded memory and one pass.

A sample brackets the wanted size; one pass collects what lies in the bracket and counts what lies above it. Should the
sample have misled, the bracket moves and another pass follows, so that the result never depends on luck.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mull.errors import MullError
from mull.merging.arithmetic import compiled
from mull.merging.arithmetic.source import Each, Source, at_hand, in_turn

ROOM = 1 << 22
"""The largest number of sizes that are collected for one bracket (16 MB)."""
FEW = 1 << 16
"""Up to this many sizes, all are collected and no sample is needed."""
_SAMPLE = 1 << 18
"""The largest number of elements in a sample."""
_SPARSE = 1 << 9
"""One of this many elements is sampled, unless the sample would exceed its limit."""
_WIDTHS = (3, 10, 50)
"""Half widths of the brackets to try, in standard errors of the sample's quantile."""

Found = tuple[NDArray[np.float32], int, int]
"""(Sizes in the bracket, as many as there is room for; how many lie in it; how many lie above it)."""
Sample = tuple[NDArray[np.float32], NDArray[np.intp] | None]
"""(Sizes; the position where each run of neighbours begins, or None if there are no runs)."""
Search = Generator[tuple[float, float], Found, float]
"""Asks for brackets, one after the other; returns the size that was wanted."""


class Size(Protocol):
    """The quantity by which elements are selected: a number ≥ 0 for each, compared in float32."""

    kernel: str
    """The compiled function for sizes of this kind."""

    @property
    def model(self) -> int:
        """Index of the model whose sizes these are; 0 if they are computed from all models."""
        ...

    def of(self, models: Sequence[Tensor], base: Tensor | None) -> Tensor:
        """The sizes of corresponding elements: `[count]`."""
        ...


@dataclass(frozen=True)
class Change:
    """|model − base|."""

    model: int
    kernel = "sizes"

    def of(self, models: Sequence[Tensor], base: Tensor | None) -> Tensor:
        model = models[self.model].double()
        return (model if base is None else model - base.double()).abs()


def largest_kept(count: int, density: float) -> int:
    """The share `density` of `count` elements, rounded down, but at least one."""
    return max(1, math.floor(density * count + 1e-9))


def kth_largest(sources: list[Source], wanted: Sequence[tuple[Size, int]], each: Each = in_turn) -> list[float]:
    """For each (size, k) the k-th largest size over all elements of all sources (k counts from 1).

    All are searched for together, so that each source is read about once. All sizes must be of one kind.
    """
    count = sum(source.count for source in sources)
    if len(sources) == 1 and count > FEW:
        sources = [at_hand(sources[0])]  # it is read for the sample and again for the search
    sizes = [size for size, _ in wanted]
    samples = _samples(sources, sizes, count, each) if count > FEW else None
    name = sources[0].name if len(sources) == 1 else "a tensor"
    searches = [
        _search(name, k, _brackets(samples[size], k / count) if samples else [(0.0, math.inf)]) for size, k in wanted
    ]
    asked = {place: next(search) for place, search in enumerate(searches)}
    results = [math.nan] * len(wanted)
    while asked:
        brackets = [(sizes[place], *bracket) for place, bracket in asked.items()]
        found = _collect_all(sources, brackets, each)
        for place, answer in zip(list(asked), found, strict=True):
            try:
                asked[place] = searches[place].send(answer)
            except StopIteration as end:
                results[place] = end.value
                del asked[place]
    return results


def _collect_all(sources: list[Source], brackets: list[tuple[Size, float, float]], each: Each) -> list[Found]:
    total = sum(source.count for source in sources)

    def collect(source: Source) -> list[Found]:
        # If there are too many sizes, those that are kept should come from all sources: each gets room for four times
        # its share.
        return _collect(source, brackets, min(source.count, ROOM, 1024 + 4 * ROOM * source.count // max(total, 1)))

    parts = each(collect, sources)
    return [
        (
            own[0][0] if len(own) == 1 else np.concatenate([values for values, _, _ in own]),
            sum(within for _, within, _ in own),
            sum(above for _, _, above in own),
        )
        for own in zip(*parts, strict=True)
    ]


def _collect(source: Source, brackets: list[tuple[Size, float, float]], room: int) -> list[Found]:
    # If all sizes in a bracket are equal, their number is enough.
    values = [_room.get(i)[: room if low < high else 0] for i, (_, low, high) in enumerate(brackets)]
    within, above = [0] * len(brackets), [0] * len(brackets)
    for block in source.blocks():
        left = [own[min(done, len(own)) :] for own, done in zip(values, within, strict=True)]
        for i, (found, larger) in enumerate(_pick(*block, brackets, left)):
            within[i] += found
            above[i] += larger
    return [(v[: min(w, len(v))].copy(), w, a) for v, w, a in zip(values, within, above, strict=True)]


class _Room(threading.local):
    """Buffers for the sizes in several brackets, per thread. The system only allocates the pages that are used."""

    def __init__(self) -> None:
        self.held: list[NDArray[np.float32]] = []

    def get(self, place: int) -> NDArray[np.float32]:
        while len(self.held) <= place:
            self.held.append(np.empty(ROOM, np.float32))
        return self.held[place]


_room = _Room()


def _search(name: str, k: int, brackets: list[tuple[float, float]]) -> Search:
    """Try the brackets, from narrow to wide. If one holds too many sizes, narrow it by the sizes collected from it."""
    lower, upper = 0.0, math.inf  # the wanted size lies in [lower, upper], the bracket within that
    low, high = brackets.pop(0)
    by_values = True
    while True:
        values, within, above = yield low, high
        if above >= k or above + within < k:
            if above >= k:
                lower = _next(high, math.inf)
            else:
                upper = _next(low, -math.inf)
            low, high = brackets.pop(0) if brackets else (lower, upper)
            low, high = max(low, lower), min(high, upper)
            if lower > upper:
                what = f"{name} holds NaN, which has no size to select by"
                raise MullError(what, "look for the checkpoint with `mull inspect`")
        elif low == high:
            return low
        elif within > len(values):
            lower, upper = low, high
            brackets = _brackets((values, None), (k - above) / within) if by_values else []  # they are a sample too
            by_values = not by_values
            if brackets:
                low, high = brackets.pop(0)
                low, high = max(low, lower), min(high, upper)
            if (low, high) == (lower, upper):
                low = _middle(low, high)
                brackets.clear()
        else:
            place = within - (k - above)
            return float(np.partition(values, place)[place])


def _middle(low: float, high: float) -> float:
    """A size in (low, high] with half of the float32 numbers between them on each side, so that the search must end."""
    ends = np.array([low, high], np.float32).view(np.int32).tolist()
    middle = float(np.array([sum(ends) // 2], np.int32).view(np.float32)[0])
    middle = middle if low < middle <= high else low
    return min(_next(middle, math.inf), high)


def _samples(sources: list[Source], sizes: list[Size], count: int, each: Each) -> dict[Size, Sample]:
    """A sample of each size: runs of elements, evenly spaced over all sources."""
    together = max(source.together for source in sources)
    number = max(min(count // _SPARSE, _SAMPLE) // together, 1)
    distinct = list(dict.fromkeys(sizes))
    begins = dict(zip(map(id, sources), accumulate((source.count for source in sources), initial=0), strict=False))

    def sample(source: Source) -> tuple[int, list[NDArray[np.float32]]]:
        length = min(together, source.count)
        begin, end = begins[id(source)], begins[id(source)] + source.count
        first, last = -(-(begin * number) // count), -(-(end * number) // count)
        if first == last:
            return 1, [np.empty(0, np.float32) for _ in distinct]
        places = np.arange(first, last) * (count / number)  # run i lies about at i·count/number
        starts = np.clip(places.astype(np.int64) - begin, 0, source.count - length)
        models, base = source.runs(starts, length)
        return length, [_size(size, models, base) for size in distinct]

    found = each(sample, sources)
    if together == 1:
        return {size: (np.concatenate([own[i] for _, own in found]), None) for i, size in enumerate(distinct)}
    lengths = np.concatenate([np.full(len(own[0]) // length, length) for length, own in found])
    starts = np.cumsum(lengths) - lengths
    return {size: (np.concatenate([own[i] for _, own in found]), starts) for i, size in enumerate(distinct)}


def _brackets(sample: Sample, share: float) -> list[tuple[float, float]]:
    """Brackets that probably contain the size that a `share` of the elements reaches."""
    sizes, starts = sample
    ordered = np.sort(sizes)  # several times faster than numpy's partition for as many places; NaN comes last
    count = len(sizes) - int(np.count_nonzero(np.isnan(sizes)))
    if not count:
        return [(0.0, math.inf)]
    last = count - 1
    place = count * (1 - share)
    error = math.sqrt(max(place * (1 - place / count), 1))  # as if the elements were independent
    if starts is not None:  # neighbours are similar, because rows of a matrix differ in scale
        larger = np.add.reduceat(sizes >= ordered[min(math.floor(place), last)], starts, dtype=np.int64)
        beyond = larger - larger.sum() / len(sizes) * np.diff(starts, append=len(sizes))
        error = max(error, math.sqrt(float(beyond @ beyond)))
    ends = [(math.floor(place - width * error), math.ceil(place + width * error)) for width in _WIDTHS]
    inside = [(max(first, 0), min(end, last)) for first, end in ends]
    return [
        (float(ordered[low]) if first >= 0 else 0.0, float(ordered[high]) if end <= last else math.inf)
        for (first, end), (low, high) in zip(ends, inside, strict=True)
    ]


def _size(size: Size, models: list[Tensor], base: Tensor | None) -> NDArray[np.float32]:
    return size.of(models, base).float().numpy(force=True)


def _pick(
    models: list[Tensor],
    base: Tensor | None,
    brackets: list[tuple[Size, float, float]],
    outs: list[NDArray[np.float32]],
) -> list[tuple[int, int]]:
    """Write the sizes within each bracket to its `out` while there is room. Returns how many lie within and above."""
    inputs = compiled.inputs(models, base)
    if inputs:
        sizes, lows, highs = zip(*brackets, strict=True)
        kernel = getattr(compiled.kernels, sizes[0].kernel)
        return kernel(*inputs, tuple(size.model for size in sizes), lows, highs, tuple(outs))
    results = []
    for (size, low, high), out in zip(brackets, outs, strict=True):
        own = _size(size, models, base)
        within = own[(own >= low) & (own <= high)]
        out[: len(within)] = within[: len(out)]
        results.append((len(within), int(np.count_nonzero(own > high))))
    return results


def _next(value: float, towards: float) -> float:
    return float(np.nextafter(np.float32(value), np.float32(towards)))
