"""The self-check of a merge: re-reads a sample of the written shards and compares it with float64 arithmetic.

Written on numpy and on its own reading of the dtypes, so that it shares no code with what it checks.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mull.checkpoints.headers import FLOATING, TensorInfo
from mull.errors import MullError
from mull.merging.plan import MergePlan, OutputTensor

_RUN = 1024
"""Elements compared at each of the first, middle and last place of a tensor."""
_MANTISSA = {"BF16": 7, "F16": 10, "F32": 23, "F64": 52}


def verify(plan: MergePlan, folder: Path) -> int:
    """Compare a sample of every tensor in `folder` with its inputs; returns the number of elements compared.

    λ = 0 and λ = 1 must be equal bit for bit; any other element must lie within one unit in the last place.

    Raises:
        MullError: an element is wrong: the disk or the memory is at fault, or mull is.
    """
    compared = 0
    for shard in plan.shards:
        for tensor in shard.tensors:
            if tensor.source.donor.dtype not in FLOATING:
                continue
            total = tensor.source.donor.numel
            for first in sorted({0, max(0, (total - _RUN) // 2), max(0, total - _RUN)} if total else ()):
                count = min(_RUN, total - first)
                written = TensorInfo(
                    tensor.source.name, tensor.dtype, (total,), folder / shard.file, tensor.start, tensor.nbytes
                )
                got, (wanted, size) = _read(written, first, count), _expected(tensor, first, count)
                unit = np.maximum(np.abs(wanted), _tiny(tensor.dtype)) * 2.0 ** -_MANTISSA[tensor.dtype]
                unit = np.maximum(unit, size * 2.0**-40)  # where the terms cancel to nothing, so do float64's digits
                exact = tensor.lam in (0, 1) and tensor.dtype == tensor.source.donor.dtype
                with np.errstate(invalid="ignore"):
                    wrong = ~(
                        (got == wanted)
                        | (np.isnan(got) & np.isnan(wanted))
                        | (np.abs(got - wanted) <= (0 if exact else unit))
                    )
                wrong &= ~(np.isinf(got) & (np.abs(wanted) > _largest(tensor.dtype)))
                if wrong.any():
                    at = first + int(np.argmax(wrong))
                    raise MullError(
                        f"self-check failed: element {at} of {tensor.source.name} is {got[at - first]:g}, not {wanted[at - first]:g}",
                        "check disk and memory, remove the partial folder, and merge again",
                    )
                compared += count
    return compared


def _expected(tensor: OutputTensor, first: int, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The exact values, and the size of the terms they are the sum of."""
    source = tensor.source
    shared = max(0, min(count, source.shared - first))
    parts, sizes = [], []
    if shared:
        i, t = (_read(side, first, shared) for side in (source.instruct, source.thinking))
        parts.append(i if tensor.lam == 0 else t if tensor.lam == 1 else tensor.lam * t + (1 - tensor.lam) * i)
        sizes.append(np.abs(i) + np.abs(t))
    if shared < count:
        parts.append(_read(source.donor, first + shared, count - shared))
        sizes.append(np.zeros(count - shared))
    return np.concatenate(parts), np.concatenate(sizes)


def _read(info: TensorInfo, first: int, count: int) -> NDArray[np.float64]:
    item = info.nbytes // max(info.numel, 1)
    with info.file.open("rb") as file:
        file.seek(info.start + first * item)
        raw = file.read(count * item)
    if info.dtype == "BF16":
        return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    kind = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}[info.dtype]
    return np.frombuffer(raw, kind).astype(np.float64)


def _tiny(dtype: str) -> float:
    return {"BF16": 2.0**-126, "F16": 2.0**-14, "F32": 2.0**-126, "F64": 2.0**-1022}[dtype]


def _largest(dtype: str) -> float:
    return {"BF16": 3.38e38, "F16": 65504.0, "F32": 3.4e38, "F64": np.finfo(np.float64).max}[dtype]
