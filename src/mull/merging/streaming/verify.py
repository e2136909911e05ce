"""The self-check of a merge: re-reads a sample of the written shards and compares it with float64 arithmetic.

Written on numpy and on its own reading of the dtypes; interpolation is computed anew, any other method by its own
operation in float64, which the compiled kernels have no part in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mull.checkpoints.blocks import Files
from mull.checkpoints.headers import FLOATING, TensorInfo
from mull.errors import MullError
from mull.merging.arithmetic.operations import Interpolation, Operation
from mull.merging.streaming.plan import MergePlan, OutputTensor

_RUN = 1024
"""Elements compared at each of the first, middle and last place of a tensor's common rows and of its other rows."""
_LARGE = 1 << 22
"""Elements of a tensor from which on all three places are compared also where each costs its own random numbers; of a
smaller one it is one of them, in turn from tensor to tensor."""
_MANTISSA = {"BF16": 7, "F16": 10, "F32": 23, "F64": 52}
_SMALLEST_NORMAL = {"BF16": 2.0**-126, "F16": 2.0**-14, "F32": 2.0**-126, "F64": 2.0**-1022}
_LARGEST = {"BF16": 3.38e38, "F16": 65504.0, "F32": 3.4e38, "F64": float(np.finfo(np.float64).max)}


def verify(plan: MergePlan, folder: Path, operations: Mapping[str, Operation]) -> int:
    """Compare a sample of every tensor in `folder` with its inputs; returns the number of elements compared.

    What is copied (λ = 0, λ = 1, integers, rows that the donor alone has) must be equal bit for bit; any other
    element must lie within one unit in the last place of the method's result in float64.

    Raises:
        MullError: an element is wrong: the disk or the memory is at fault, or mull is.
    """
    compared = 0
    for shard in plan.shards:
        file = folder / shard.file
        with Files() as files:
            header = memoryview(bytearray(len(shard.header)))
            files.open(file)
            files.read(file, 0, header)
            if header != shard.header:
                raise MullError(f"self-check failed: the header of {shard.file} is damaged", _REMEDY)
            for turn, tensor in enumerate(shard.tensors):
                operation = operations.get(tensor.source.name)
                shared, total = tensor.source.shared, tensor.source.donor.numel
                result = TensorInfo(tensor.source.name, tensor.dtype, (total,), file, tensor.start, tensor.nbytes)
                for runs in _looked_at(shared, total, operation, turn):
                    source = tensor.source.donor if runs[0][0] >= shared else plan.copies(tensor)
                    _compare(tensor, result, source, operation, _Runs(files, runs))
                    compared += sum(count for _, count in runs)
    return compared


class _Runs(NamedTuple):
    """Where to look: (first, count) of each run of elements; they are compared as one."""

    files: Files
    runs: list[tuple[int, int]]

    def element(self, at: int) -> int:
        """The tensor's element that is the one at `at` here."""
        for first, count in self.runs:
            if at < count:
                return first + at
            at -= count
        raise IndexError(at)

    def raw(self, info: TensorInfo) -> bytes:
        item = info.nbytes // max(info.numel, 1)
        read = bytearray(item * sum(count for _, count in self.runs))
        self.files.open(info.file)
        done = 0
        for first, count in self.runs:
            part = memoryview(read)[done : done + count * item]
            self.files.read(info.file, info.start + first * item, part)
            done += len(part)
        return bytes(read)

    def values(self, info: TensorInfo) -> NDArray[np.float64]:
        raw = self.raw(info)
        if info.dtype == "BF16":
            return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        kind = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}[info.dtype]
        return np.frombuffer(raw, kind).astype(np.float64)


def _looked_at(shared: int, total: int, operation: Operation | None, turn: int) -> list[list[tuple[int, int]]]:
    """The runs of a tensor, those together that can be computed together."""
    places = list(_places(shared, total, operation.align if operation else 1))
    mixed, own = [run for run in places if run[0] < shared], [run for run in places if run[0] >= shared]
    if not operation or not operation.placed:
        groups = [mixed, own]
    elif shared < _LARGE and mixed:
        groups = [[mixed[turn % len(mixed)]], own]
    else:
        groups = [*([run] for run in mixed), own]
    return [group for group in groups if group]


_REMEDY = "check disk and memory, then merge again"


def _places(shared: int, total: int, align: int = 1) -> Iterator[tuple[int, int]]:
    """(first, count) of each run, in whole multiples of `align`; none straddles the end of the common rows."""
    run = -(-_RUN // align) * align
    for begin, end in ((0, shared), (shared, total)):
        last = max(begin, end - run)
        for place in sorted({begin, (begin + last) // 2, last}):
            first = place - (place - begin) % align
            if first < end:
                yield first, end - first if place == last else run


def _compare(
    tensor: OutputTensor, result: TensorInfo, source: TensorInfo | None, operation: Operation | None, places: _Runs
) -> None:
    values = None
    if source and source.dtype == tensor.dtype:
        item = np.dtype((np.void, tensor.nbytes // max(result.numel, 1)))
        wrong = np.frombuffer(places.raw(source), item) != np.frombuffer(places.raw(result), item)
    else:
        values = places.values(result)
        if source:
            wanted = places.values(source)
            size = np.abs(wanted)
        else:
            wanted, size = _recomputed(tensor, operation, places)
        wrong = ~_close(values, wanted, size, tensor.dtype)
    if wrong.any():
        at = int(np.argmax(wrong))
        if values is None and tensor.dtype in FLOATING:
            values = places.values(result)
        value = "" if values is None else f" ({values[at]:g})"
        where = f"element {places.element(at)} of {tensor.source.name} in {result.file.name}"
        raise MullError(f"self-check failed: {where} is wrong{value}", _REMEDY)


def _recomputed(
    tensor: OutputTensor, operation: Operation | None, places: _Runs
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The elements in float64 and the size of the terms they are the sum of."""
    models = [places.values(info) for info in tensor.source.models]
    base = places.values(tensor.source.base) if tensor.source.base else None
    with np.errstate(invalid="ignore", over="ignore"):
        if isinstance(operation, Interpolation):
            parts = ((1 - operation.lam) * models[0], operation.lam * models[1])
            return parts[0] + parts[1], np.abs(parts[0]) + np.abs(parts[1])
        assert operation is not None
        wanted = np.empty(len(models[0]))
        origin = None if base is None else torch.from_numpy(base)
        operation.into(
            [torch.from_numpy(model) for model in models], origin, torch.from_numpy(wanted), places.runs[0][0]
        )
        return wanted, np.abs(wanted) + sum(np.abs(values) for values in (*models, *([] if base is None else [base])))


def _close(
    got: NDArray[np.float64], wanted: NDArray[np.float64], size: NDArray[np.float64], dtype: str
) -> NDArray[np.bool_]:
    """Within one unit in the last place of `wanted`, the sum of terms of total size `size`."""
    with np.errstate(invalid="ignore"):
        unit = np.maximum(np.abs(wanted), _SMALLEST_NORMAL[dtype]) * 2.0 ** -_MANTISSA[dtype]
        unit = np.maximum(unit, size * 2.0**-40)  # where the terms cancel to nothing, so do float64's digits
        overflow = np.isinf(got) & (np.abs(wanted) > _LARGEST[dtype])
        return (np.abs(got - wanted) <= unit) | overflow | (~np.isfinite(wanted) & ~np.isfinite(got))
