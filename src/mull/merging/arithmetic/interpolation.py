"""Θ(λ) = λ·Thinking + (1−λ)·Instruct on tensors, rounded only at the end.

Pure arithmetic: knows nothing of files, names or models.
"""

from __future__ import annotations

import struct
import threading

import torch
from torch import Tensor

from mull.merging.arithmetic import compiled

BLOCK = 32_768
"""Elements computed at a time: few enough that torch never splits a block over threads (see `interpolate`)."""
_VECTOR = 64
"""Ranges are padded to a multiple of this many elements: a multiple of the vector length of all torch CPU kernels."""
_FLOAT32_WEIGHT = 2.0**-12
"""Smallest |w| for which bfloat16 is computed in float32 (see `interpolate`)."""


def interpolate(
    instruct: Tensor,
    thinking: Tensor,
    lam: float,
    out: Tensor,
    *,
    rounded: torch.dtype | None = None,
    block: int = BLOCK,
) -> None:
    """Write λ·thinking + (1−λ)·instruct into `out` (Wu et al. 2025, arXiv 2510.10977, eq. 6).

    All three are contiguous, of one shape and on one device, of any floating dtype; `out` may be one of the inputs.
    Each result is rounded to `rounded`, the dtype of the merged checkpoint (the dtype of `out` unless given), and then
    cast to the dtype of `out`. No intermediate value has that dtype. λ = 0 and λ = 1 copy that end unchanged if its
    dtype is `rounded`.

    bfloat16 is computed in float32, every other dtype in float64. torch converts float64 to bfloat16 and float16 by way
    of float32, which rounds a second time. float32 has 16 more bits than bfloat16 and 13 more than float16, so that a
    result is within 0.5001 units in the last place of exact arithmetic, or within 2^-40 of the size of the terms where
    they cancel to less than that. Sums must not overflow float32: elements must be below 1.7e38.

    The sum is computed as near + w·(far − near), where `near` is the model with the larger weight. So |w| ≤ 1/2 for λ
    in [0, 1], 1 − λ is exact where it is used, and the rounding error of the difference stays small beside the result.
    Rounding w to float32 would be visible where the two terms nearly cancel. Therefore w is split into two float32
    parts, w = high + low, and low·(far − near) is added last. If |w| < 2^-12, float64 is used: there the terms cancel
    only if one element is thousands of times the other, and float32 cannot hold the difference of two such bfloat16
    numbers exactly.

    On a CPU with fused multiply-add, a compiled kernel handles bfloat16 in one pass over memory (kernels/); elsewhere
    torch does the same steps and gives the same bytes. The result does not depend on `block`, provided that torch does
    not split a block over threads. torch's scalar code for the last elements of a range is avoided by padding.
    """
    rounded = rounded or out.dtype
    if lam in (0, 1):
        end = thinking if lam == 1 else instruct
        out.copy_(end if end.dtype == rounded else end.to(rounded))
        return
    near, far, weight = (thinking, instruct, 1 - lam) if lam > 0.5 else (instruct, thinking, lam)
    near, far, flat = near.view(-1), far.view(-1), out.view(-1)
    all_bfloat16 = near.dtype == far.dtype == rounded == torch.bfloat16
    if all_bfloat16 and _FLOAT32_WEIGHT <= abs(weight) < 2.0**64:
        high = struct.unpack("f", struct.pack("f", weight))[0]
        if compiled.supports(near, far) and out.device.type == "cpu" and out.dtype in (torch.bfloat16, torch.float32):
            sides, written = map(compiled.memory, (near, far)), compiled.memory(flat)
            compiled.kernels.interpolate(*sides, written, high, weight - high)
        else:
            _in_passes(near, far, high, weight - high, flat, rounded, torch.float32, block)
    else:
        _in_passes(near, far, weight, 0.0, flat, rounded, torch.float64, block)


def _in_passes(
    near: Tensor,
    far: Tensor,
    high: float,
    low: float,
    out: Tensor,
    rounded: torch.dtype,
    compute: torch.dtype,
    block: int,
) -> None:
    """near + high·(far − near) + low·(far − near) with torch, block by block in scratch memory."""
    block = max(1, min(block, out.numel()))
    buffers = _scratch.get(-(-block // _VECTOR) * _VECTOR, compute, out.device)
    for start in range(0, out.numel(), block):
        count = min(block, out.numel() - start)
        mixed, difference = (buffer[: -(-count // _VECTOR) * _VECTOR] for buffer in buffers)
        mixed[:count].copy_(near[start : start + count])
        difference[:count].copy_(far[start : start + count])
        difference.sub_(mixed)
        mixed.add_(difference, alpha=high)  # fused multiply-add: one rounding
        if low:
            mixed.add_(difference, alpha=low)
        result = mixed[:count] if out.dtype == rounded else mixed[:count].to(rounded)
        out[start : start + count].copy_(result)


class _Scratch(threading.local):
    """Two scratch buffers per thread, dtype and device, reused from call to call."""

    def __init__(self) -> None:
        self.held: dict[tuple[torch.dtype, torch.device], tuple[Tensor, Tensor]] = {}

    def get(self, count: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
        buffers = self.held.get((dtype, device))
        if buffers is None or buffers[0].numel() < count:
            buffers = (torch.zeros(count, dtype=dtype, device=device), torch.zeros(count, dtype=dtype, device=device))
            self.held[dtype, device] = buffers
        return buffers


_scratch = _Scratch()
