"""Looks for NaN and infinity in the results of a merge, and says where they come from.

Every method gives NaN or infinity where an input has one, so that it is enough to look at the results, while they are
in the CPU's cache. Only if some are found are the inputs read again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mull.checkpoints.headers import TensorInfo
from mull.checkpoints.pair import AlignedTensor, Group
from mull.errors import MullError
from mull.merging.arithmetic import compiled
from mull.merging.arithmetic.source import NotFinite
from mull.merging.streaming.plan import DTYPES, OutputTensor

_KINDS: dict[str, tuple[Any, Any, int]] = {
    "F16": (np.int16, np.uint16, 0x7C00),
    "BF16": (np.int16, np.uint16, 0x7F80),
    "F32": (np.int32, np.uint32, 0x7F800000),
    "F64": (np.int64, np.uint64, 0x7FF0000000000000),
}
"""Integers of a dtype's size, and the bits of its infinity: as integers, only NaN's are larger."""
_LARGEST = {"F16": "65504", "BF16": "3.39e38", "F32": "3.4e38", "F64": "1.8e308"}
_PLACES = {"instruct": "on the Instruct side", "thinking": "on the Thinking side", "base": "in the base"}
_PIECE = 1 << 24  # bytes


def all_finite(data: memoryview, dtype: str) -> bool:
    """Whether no element is NaN or infinite. Without the kernel: by the maxima as signed and as unsigned integers."""
    if dtype not in _KINDS or not len(data):
        return True
    signed, unsigned, infinity = _KINDS[dtype]
    if compiled.kernels and infinity < 1 << 15:
        return compiled.kernels.all_below(data, infinity)
    values = np.frombuffer(data, signed)
    negative = infinity | 1 << (8 * values.itemsize - 1)  # the bits of -infinity
    return bool(values.max() < infinity and values.view(unsigned).max() < negative)


def result_error(group: Group, tensor: OutputTensor, first: int, data: memoryview) -> NotFinite:
    """The error for a result that is not finite. `data`: the elements from `first` on, some of which are not finite."""
    found = input_error(group, tensor.source)
    if found:
        return NotFinite(tensor.source.name, found.what, f"{found.remedy}, or pass --allow non-finite")
    element = first + int(np.argmax(_not_finite(np.frombuffer(data, _KINDS[tensor.dtype][0]), tensor.dtype)))
    kind = next((name for name, stored in DTYPES.items() if stored == tensor.dtype), tensor.dtype)
    place = f"element {element} of {tensor.source.name}"
    what = f"{place} is beyond the range of {kind} in the result (at most {_LARGEST[tensor.dtype]})"
    remedy = "choose --dtype bfloat16 or float32" if kind == "float16" else "look at this tensor in all models"
    return NotFinite(tensor.source.name, what, f"{remedy}, or pass --allow non-finite")


def input_error(group: Group, source: AlignedTensor) -> MullError | None:
    """The error that counts NaN and infinity in each model's tensor, or None if all are finite. Reads the tensors."""
    inputs = [*source.models, *([source.base] if source.base else [])]
    counts = {role: _count(info) for role, info in zip(group.by_role, inputs, strict=True)}
    total = f"{source.donor.numel:,}"
    found = [
        f"{count:,} of {total} elements {_PLACES.get(role, f'in {role}')}" for role, count in counts.items() if count
    ]
    if not found:
        return None
    what = f"{source.name} holds NaN or infinity: {', '.join(found)}"
    return MullError(what, "download or save that checkpoint again (`mull inspect` names all such tensors)")


def _count(info: TensorInfo) -> int:
    """How many elements are NaN or infinite."""
    if info.dtype not in _KINDS:
        return 0
    count = 0
    with info.file.open("rb") as file:
        file.seek(info.start)
        for done in range(0, info.nbytes, _PIECE):
            values = np.frombuffer(file.read(min(_PIECE, info.nbytes - done)), _KINDS[info.dtype][0])
            count += int(_not_finite(values, info.dtype).sum())
    return count


def _not_finite(values: Any, dtype: str) -> Any:
    infinity = _KINDS[dtype][2]
    return (values & infinity) == infinity
