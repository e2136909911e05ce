"""Θ(λ) = λ·Thinking + (1−λ)·Instruct on tensors, rounded once.

Pure arithmetic: knows nothing of files, names or models.
"""

from __future__ import annotations

import struct
import threading

import torch
from torch import Tensor

BLOCK = 32_768
"""Elements handled at a time: small enough that torch never splits a block over threads (see `interpolate`)."""

_scratch = threading.local()


def interpolate(instruct: Tensor, thinking: Tensor, lam: float, out: Tensor, *, block: int = BLOCK) -> None:
    """Write λ·thinking + (1−λ)·instruct into `out` (Wu et al. 2025, arXiv 2510.10977, eq. 6).

    All three are contiguous, of one shape and on one device, of any floating dtype; `out` may be one of the inputs.
    λ = 0 and λ = 1 copy that end untouched. Otherwise each element is rounded to `out`'s dtype once: bfloat16 is
    computed in float32 (16 spare bits, so that fewer than 0.02 % of elements differ from exact arithmetic, by one
    unit in the last place), every other dtype in float64.

    In float32 λ itself would be rounded, which shows wherever the two terms nearly cancel; so it is split into two
    float32 parts, λ = high + low, and the small correction is added last.

    The result does not depend on `block`, provided it is a multiple of 64 and no thread pool splits it further:
    torch's kernels treat the last few elements of a range in scalar code, so ranges must end at the same places.
    """
    if lam in (0, 1):
        out.copy_(thinking if lam == 1 else instruct)
        return
    flat_i, flat_t, flat_o = instruct.view(-1), thinking.view(-1), out.view(-1)
    in_float32 = instruct.dtype == thinking.dtype == out.dtype == torch.bfloat16
    dtype = torch.float32 if in_float32 else torch.float64
    high = struct.unpack("f", struct.pack("f", lam))[0] if in_float32 else lam
    low = lam - high
    block = min(block, flat_o.numel())
    for start in range(0, flat_o.numel(), block or 1):
        i, t, o = (flat[start : start + block] for flat in (flat_i, flat_t, flat_o))
        mixed, difference = (buffer[: o.numel()] for buffer in _buffers(block, dtype, out.device))
        mixed.copy_(i)
        difference.copy_(t).sub_(mixed)
        mixed.add_(difference, alpha=high)  # fused multiply-add: one rounding
        if low:
            mixed.add_(difference, alpha=low)
        o.copy_(mixed)


def _buffers(block: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Two scratch buffers of this thread, reused from call to call."""
    held: dict[tuple[torch.dtype, torch.device], tuple[Tensor, Tensor]] = _scratch.__dict__
    buffers = held.get((dtype, device))
    if buffers is None or buffers[0].numel() < block:
        buffers = held[dtype, device] = (
            torch.empty(block, dtype=dtype, device=device),
            torch.empty(block, dtype=dtype, device=device),
        )
    return buffers
