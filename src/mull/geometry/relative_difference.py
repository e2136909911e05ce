"""The relative difference σ(A, B) of two checkpoints, overall and by layer and module kind, in one streaming pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

import torch

from mull.checkpoints.blocks import Buffer, Files
from mull.checkpoints.headers import FLOATING, ITEM_BYTES
from mull.checkpoints.names import ModuleKind, layer_of, module_kind
from mull.checkpoints.pair import AlignedTensor, Pair

_PIECE = 1 << 19
"""Elements read at a time: a few MB per buffer."""


@dataclass(frozen=True)
class RelativeDifference:
    """The relative difference σ = Σ|A−B| / (Σ|A| + Σ|B|), from 0 (equal) to 1; Shadow-FT (arXiv 2505.12716)."""

    overall: float
    cells: dict[tuple[int | None, ModuleKind], float]
    """σ by (layer, module kind); layer None = outside the blocks."""


def relative_difference(
    pair: Pair, *, threads: int = 2, progress: Callable[[int], object] | None = None
) -> RelativeDifference:
    """The relative difference of the two sides of a checked pair, over the elements that both have.

    `progress` is called with the bytes read since the last call, by one thread at a time.
    """
    sums: dict[tuple[int | None, ModuleKind], list[float]] = defaultdict(lambda: [0.0, 0.0])
    tensors = [t for t in pair.tensors if t.instruct.dtype in FLOATING and t.thinking.dtype in FLOATING]
    progress_lock = Lock()
    intra_op = torch.get_num_threads()

    def worker(own_tensors: list[AlignedTensor]) -> list[tuple[AlignedTensor, float, float]]:
        torch.set_num_threads(1)
        buffers = [Buffer(_PIECE * 8) for _ in range(2)]
        float32 = [torch.empty(_PIECE, dtype=torch.float32) for _ in range(3)]
        float64 = [torch.empty(_PIECE, dtype=torch.float64) for _ in range(3)]  # takes memory only when it is used
        results = []
        for t in own_tensors:
            difference = magnitude = 0.0
            converted = float32 if {t.instruct.dtype, t.thinking.dtype} <= {"BF16", "F16"} else float64
            shared = min(t.instruct.numel, t.thinking.numel)
            for first in range(0, shared, _PIECE):
                count = min(_PIECE, shared - first)
                a, b, d = (buffer[:count] for buffer in converted)
                a.copy_(files.elements(t.instruct, first, count, buffers[0]))
                b.copy_(files.elements(t.thinking, first, count, buffers[1]))
                torch.sub(a, b, out=d)
                difference += d.abs_().sum(dtype=torch.float64).item()
                magnitude += a.abs_().sum(dtype=torch.float64).item() + b.abs_().sum(dtype=torch.float64).item()
                if progress:
                    with progress_lock:
                        progress(count * (ITEM_BYTES[t.instruct.dtype] + ITEM_BYTES[t.thinking.dtype]))
            files.check((t.instruct.file, t.thinking.file))
            results.append((t, difference, magnitude))
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
    return RelativeDifference(_ratio(*total), {key: _ratio(*cell) for key, cell in ordered})


def _ratio(difference: float, magnitude: float) -> float:
    return difference / magnitude if magnitude else 0.0
