"""The relative difference σ(A, B) of two checkpoints, overall and by layer and module kind, in one streaming pass."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

import torch
from torch import Tensor

from mull.checkpoints.blocks import Buffer, Files
from mull.checkpoints.headers import FLOATING, ITEM_BYTES
from mull.checkpoints.names import ModuleKind, layer_of, module_kind
from mull.checkpoints.pair import AlignedTensor, Pair

_PIECE = 1 << 19
"""Elements read at a time: a few MB per buffer."""
_REPORTED = 1 << 20
"""Bytes after which `progress` is called: a call for every tensor would take longer than a small tensor."""


@dataclass(frozen=True)
class RelativeDifference:
    """The relative difference σ = Σ|A−B| / (Σ|A| + Σ|B|), from 0 (equal) to 1; Shadow-FT (arXiv 2505.12716)."""

    overall: float
    cells: dict[tuple[int | None, ModuleKind], float]
    """σ by (layer, module kind); layer None = outside the blocks."""
    not_finite: tuple[dict[str, int], dict[str, int]] = ({}, {})
    """For each side, how many elements of which tensors are NaN or infinite. σ leaves these elements out."""


def relative_difference(
    pair: Pair, *, threads: int = 2, progress: Callable[[int], object] | None = None
) -> RelativeDifference:
    """The relative difference of the two sides of a checked pair, over the elements that both have.

    `progress` is called with the bytes read since the last call, by one thread at a time.
    """
    sums: dict[tuple[int | None, ModuleKind], list[float]] = defaultdict(lambda: [0.0, 0.0])
    tensors = [t for t in pair.tensors if t.instruct.dtype in FLOATING and t.thinking.dtype in FLOATING]
    not_finite: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    progress_lock = Lock()
    intra_op = torch.get_num_threads()

    def report(nbytes: int) -> None:
        if progress:
            with progress_lock:
                progress(nbytes)

    def worker(own_tensors: list[AlignedTensor]) -> list[tuple[AlignedTensor, float, float]]:
        torch.set_num_threads(1)
        buffers = [Buffer(_PIECE * 8) for _ in range(2)]
        float32 = [torch.empty(_PIECE, dtype=torch.float32) for _ in range(3)]
        float64 = [torch.empty(_PIECE, dtype=torch.float64) for _ in range(3)]  # takes memory only when it is used
        results = []
        unreported = 0
        for t in own_tensors:
            sides = t.instruct, t.thinking
            difference = magnitude = 0.0
            converted = float32 if {info.dtype for info in sides} <= {"BF16", "F16"} else float64
            shared = min(info.numel for info in sides)
            item_bytes = sum(ITEM_BYTES[info.dtype] for info in sides)
            for first in range(0, shared, _PIECE):
                count = min(_PIECE, shared - first)
                a, b, d = (buffer[:count] for buffer in converted)
                for values, info, buffer in zip((a, b), sides, buffers, strict=True):
                    values.copy_(files.elements(info, first, count, buffer))
                torch.sub(a, b, out=d)
                part = d.abs_().sum(dtype=torch.float64).item()
                size = a.abs_().sum(dtype=torch.float64).item() + b.abs_().sum(dtype=torch.float64).item()
                if not math.isfinite(part + size):
                    read = [files.elements(info, first, count, buffers[i]) for i, info in enumerate(sides)]
                    part, size, found = _of_finite(*read)
                    for counts, number in zip(not_finite, found, strict=True):
                        counts[t.name] += number
                difference += part
                magnitude += size
                unreported += count * item_bytes
                if unreported >= _REPORTED:
                    report(unreported)
                    unreported = 0
            results.append((t, difference, magnitude))
        report(unreported)
        files.check({info.file for t in own_tensors for info in t.models})
        return results

    with Files() as files, ThreadPoolExecutor(threads) as pool:
        for t in tensors:
            files.open(t.instruct.file)
            files.open(t.thinking.file)
        try:
            for batch in pool.map(worker, (tensors[i::threads] for i in range(threads))):
                for t, difference, magnitude in batch:
                    cell = sums[layer_of(t.name), module_kind(t.name)]
                    cell[0] += difference
                    cell[1] += magnitude
        finally:
            torch.set_num_threads(intra_op)  # torch takes the workers' setting as default for later threads
    total = [sum(cell[i] for cell in sums.values()) for i in range(2)]
    ordered = sorted(sums.items(), key=lambda item: (item[0][0] is None, item[0][0] or 0, item[0][1]))
    cells = {key: _ratio(*cell) for key, cell in ordered}
    return RelativeDifference(_ratio(*total), cells, (dict(+not_finite[0]), dict(+not_finite[1])))


def _of_finite(a: Tensor, b: Tensor) -> tuple[float, float, tuple[int, int]]:
    """Σ|a−b| and Σ|a| + Σ|b| over the elements that are finite in both, and how many of each are not finite."""
    finite = a.isfinite(), b.isfinite()
    a, b = (side[finite[0] & finite[1]].double() for side in (a, b))
    counts = [int((~side).sum()) for side in finite]
    return (a - b).abs().sum().item(), a.abs().sum().item() + b.abs().sum().item(), (counts[0], counts[1])


def _ratio(difference: float, magnitude: float) -> float:
    return difference / magnitude if magnitude else 0.0
