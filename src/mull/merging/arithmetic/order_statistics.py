"""Exact order statistics of sizes such as |model − base|, over any number of elements, in bounded memory and one pass.

A sample gives a bracket that probably contains the wanted size. One pass collects the sizes in the bracket and counts
those above it. If the bracket turns out to be wrong, it is moved and another pass follows, so that the result is exact.
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

from mull.merging.arithmetic import compiled
from mull.merging.arithmetic.source import Mapper, NotFinite, Source, load_if_small, map_serially

MAX_COLLECTED = 1 << 22
"""The largest number of sizes that are collected for one bracket (16 MB)."""
COLLECT_ALL = 1 << 16
"""Up to this many elements, all sizes are collected and no sample is needed."""
_SAMPLE = 1 << 18
"""The largest number of elements in a sample."""
_SPARSE = 1 << 9
"""One of this many elements is sampled, unless the sample would exceed its limit."""
_WIDTHS = (3, 10, 50)
"""Half widths of the brackets to try, in standard errors of the sample's quantile."""

Found = tuple[NDArray[np.float32], int, int]
"""(Sizes in the bracket, at most `MAX_COLLECTED`; how many lie in the bracket; how many lie above it)."""
Sample = tuple[NDArray[np.float32], NDArray[np.intp] | None]
"""(Sizes; the position where each run of neighbours begins, or None if there are no runs)."""
Search = Generator[tuple[float, float], Found, float]
"""Yields the brackets to look at, receives what was found in each, and returns the wanted size."""


class Size(Protocol):
    """The quantity by which elements are selected: a number ≥ 0 for each element, compared in float32."""

    kernel: str
    """Name of the compiled function for sizes of this kind."""

    @property
    def model(self) -> int:
        """Index of the model whose sizes these are; 0 if they are computed from all models."""
        ...

    def of(self, models: Sequence[Tensor], base: Tensor | None) -> Tensor:
        """The sizes of corresponding elements: `[count]`."""
        ...


@dataclass(frozen=True)
class DeltaSize:
    """|model − base|."""

    model: int
    kernel = "sizes"

    def of(self, models: Sequence[Tensor], base: Tensor | None) -> Tensor:
        model = models[self.model].double()
        return (model if base is None else model - base.double()).abs()


def largest_kept(count: int, density: float) -> int:
    """The share `density` of `count` elements, rounded down, but at least one."""
    return max(1, math.floor(density * count + 1e-9))


def kth_largest(
    sources: list[Source], wanted: Sequence[tuple[Size, int]], mapper: Mapper = map_serially
) -> list[float]:
    """For each (size, k) of `wanted`, the k-th largest size over all elements of all sources (k counts from 1).

    All are searched for at the same time, so that each source is read about once. All sizes must be of one kind.
    """
    count = sum(source.numel for source in sources)
    if len(sources) == 1 and count > COLLECT_ALL:
        sources = [load_if_small(sources[0])]  # read for the sample and again for the search
    sizes = [size for size, _ in wanted]
    samples = _samples(sources, sizes, count, mapper) if count > COLLECT_ALL else None
    name = sources[0].name if len(sources) == 1 else "a tensor"
    searches = [
        _search(name, k, _brackets(samples[size], k / count) if samples else [(0.0, math.inf)]) for size, k in wanted
    ]
    asked = {place: next(search) for place, search in enumerate(searches)}
    results = [math.nan] * len(wanted)
    while asked:
        brackets = [(sizes[place], *bracket) for place, bracket in asked.items()]
        found = _collect_all(sources, brackets, mapper)
        for place, answer in zip(list(asked), found, strict=True):
            try:
                asked[place] = searches[place].send(answer)
            except StopIteration as end:
                results[place] = end.value
                del asked[place]
    return results


def _collect_all(sources: list[Source], brackets: list[tuple[Size, float, float]], mapper: Mapper) -> list[Found]:
    total = sum(source.numel for source in sources)

    def collect(source: Source) -> list[Found]:
        # If there are too many sizes, the collected ones should come from all sources: each may give 4 times its share.
        share = MAX_COLLECTED * source.numel // max(total, 1)
        return _collect(source, brackets, min(source.numel, MAX_COLLECTED, 1024 + 4 * share))

    parts = mapper(collect, sources)
    return [
        (
            found[0][0] if len(found) == 1 else np.concatenate([values for values, _, _ in found]),
            sum(within for _, within, _ in found),
            sum(above for _, _, above in found),
        )
        for found in zip(*parts, strict=True)
    ]


def _collect(source: Source, brackets: list[tuple[Size, float, float]], limit: int) -> list[Found]:
    # A bracket of one value (low == high) needs only counting.
    values = [_buffers.get(i)[: limit if low < high else 0] for i, (_, low, high) in enumerate(brackets)]
    within, above = [0] * len(brackets), [0] * len(brackets)
    for block in source.blocks():
        unused = [buffer[min(count, len(buffer)) :] for buffer, count in zip(values, within, strict=True)]
        for i, (inside, larger) in enumerate(_pick(*block, brackets, unused)):
            within[i] += inside
            above[i] += larger
    return [(v[: min(w, len(v))].copy(), w, a) for v, w, a in zip(values, within, above, strict=True)]


class _Buffers(threading.local):
    """One buffer per bracket and thread. The operating system only allocates the pages that are used."""

    def __init__(self) -> None:
        self.held: list[NDArray[np.float32]] = []

    def get(self, index: int) -> NDArray[np.float32]:
        while len(self.held) <= index:
            self.held.append(np.empty(MAX_COLLECTED, np.float32))
        return self.held[index]


_buffers = _Buffers()


def _search(name: str, k: int, brackets: list[tuple[float, float]]) -> Search:
    """Try the brackets, from narrow to wide. If one holds too many sizes, make a narrower one from those collected."""
    lower, upper = 0.0, math.inf  # known: the wanted size lies in [lower, upper]; [low, high] is the bracket within
    low, high = brackets.pop(0)
    by_sample = True  # alternates between a bracket from the collected sizes and halving, so that the search must end
    while True:
        values, within, above = yield low, high
        if above >= k or above + within < k:
            if above >= k:
                lower = _next_float32(high, math.inf)
            else:
                upper = _next_float32(low, -math.inf)
            low, high = brackets.pop(0) if brackets else (lower, upper)
            low, high = max(low, lower), min(high, upper)
            if lower > upper:
                what = f"{name} holds NaN, which has no size to select by"
                raise NotFinite(name, what, "look for it with `mull inspect`")
        elif low == high:
            return low
        elif within > len(values):
            lower, upper = low, high
            brackets = _brackets((values, None), (k - above) / within) if by_sample else []
            by_sample = not by_sample
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
    """The float32 number in (low, high] that halves the float32 numbers between them."""
    ends = np.array([low, high], np.float32).view(np.int32).tolist()
    middle = float(np.array([sum(ends) // 2], np.int32).view(np.float32)[0])
    middle = middle if low < middle <= high else low
    return min(_next_float32(middle, math.inf), high)


def _samples(sources: list[Source], sizes: list[Size], count: int, mapper: Mapper) -> dict[Size, Sample]:
    """A sample of each size: runs of elements, evenly spaced over all sources."""
    run_length = max(source.run_length for source in sources)
    number = max(min(count // _SPARSE, _SAMPLE) // run_length, 1)  # of runs in the sample
    distinct = list(dict.fromkeys(sizes))
    begins = dict(zip(map(id, sources), accumulate((source.numel for source in sources), initial=0), strict=False))

    def sample(source: Source) -> tuple[int, list[NDArray[np.float32]]]:
        length = min(run_length, source.numel)
        begin, end = begins[id(source)], begins[id(source)] + source.numel
        first, last = -(-(begin * number) // count), -(-(end * number) // count)
        if first == last:
            return 1, [np.empty(0, np.float32) for _ in distinct]
        positions = np.arange(first, last) * (count / number)  # run i begins near element i·count/number
        starts = np.clip(positions.astype(np.int64) - begin, 0, source.numel - length)
        models, base = source.runs(starts, length)
        return length, [_size(size, models, base) for size in distinct]

    found = mapper(sample, sources)
    if run_length == 1:
        return {size: (np.concatenate([sizes[i] for _, sizes in found]), None) for i, size in enumerate(distinct)}
    lengths = np.concatenate([np.full(len(sizes[0]) // length, length) for length, sizes in found])
    starts = np.cumsum(lengths) - lengths
    return {size: (np.concatenate([sizes[i] for _, sizes in found]), starts) for i, size in enumerate(distinct)}


def _brackets(sample: Sample, share: float) -> list[tuple[float, float]]:
    """Brackets that probably contain the size that a `share` (0 to 1) of the elements reach, narrow to wide."""
    sizes, starts = sample
    ordered = np.sort(sizes)  # several times faster than numpy's partition at this many positions; NaN comes last
    count = len(sizes) - int(np.count_nonzero(np.isnan(sizes)))
    if not count:
        return [(0.0, math.inf)]
    last = count - 1
    place = count * (1 - share)
    error = math.sqrt(max(place * (1 - place / count), 1))  # as if the elements were independent
    if starts is not None:  # elements of a run are not independent: rows of a matrix differ in scale
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
    """Write the sizes within each bracket to its `out`, as many as fit. Returns (within, above) counts per bracket."""
    inputs = compiled.inputs(models, base)
    if inputs:
        sizes, lows, highs = zip(*brackets, strict=True)
        kernel = getattr(compiled.kernels, sizes[0].kernel)
        return kernel(*inputs, tuple(size.model for size in sizes), lows, highs, tuple(outs))
    results = []
    for (size, low, high), out in zip(brackets, outs, strict=True):
        values = _size(size, models, base)
        within = values[(values >= low) & (values <= high)]
        out[: len(within)] = within[: len(out)]
        results.append((len(within), int(np.count_nonzero(values > high))))
    return results


def _next_float32(value: float, towards: float) -> float:
    return float(np.nextafter(np.float32(value), np.float32(towards)))
