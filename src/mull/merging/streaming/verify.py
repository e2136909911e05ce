"""The self-check of a merge: re-reads a sample of the written shards and compares it with float64 arithmetic.

Uses numpy and its own code to decode dtypes. Interpolation has a second implementation here; other methods use their
own operation in float64, for which no compiled kernel is used.
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
"""Elements per run. Compared are the first, the middle and the last run of the rows that all models have, and of those
that only the donor has."""
_LARGE = 1 << 22
"""For an operation with random numbers every run costs time. So in a tensor of fewer elements than this only one of the
three runs of the common rows is compared: a different one from tensor to tensor."""
_MANTISSA = {"BF16": 7, "F16": 10, "F32": 23, "F64": 52}
_SMALLEST_NORMAL = {"BF16": 2.0**-126, "F16": 2.0**-14, "F32": 2.0**-126, "F64": 2.0**-1022}
_LARGEST = {"BF16": 3.38e38, "F16": 65504.0, "F32": 3.4e38, "F64": float(np.finfo(np.float64).max)}


def verify(plan: MergePlan, folder: Path, operations: Mapping[str, Operation]) -> int:
    """Compare a sample of every tensor in `folder` with its inputs; returns the number of elements compared.

    Copied elements (λ = 0, λ = 1, integers, rows that only the donor has) must be equal bit for bit. Any other element
    must lie within one unit in the last place of the method's result in float64.

    Raises:
        MullError: an element is wrong, because of the disk, the memory or an error in mull.
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
            for index, tensor in enumerate(shard.tensors):
                operation = operations.get(tensor.source.name)
                shared, total = tensor.source.shared, tensor.source.donor.numel
                result = TensorInfo(tensor.source.name, tensor.dtype, (total,), file, tensor.start, tensor.nbytes)
                for runs in _sampled_runs(shared, total, operation, index):
                    source = tensor.source.donor if runs[0][0] >= shared else plan.copied_tensor(tensor)
                    _compare(tensor, result, source, operation, _Sample(files, runs), plan.allow_non_finite)
                    compared += sum(count for _, count in runs)
    return compared


class _Sample(NamedTuple):
    """Runs of elements, (first, count) each, that are read and compared as one array."""

    files: Files
    runs: list[tuple[int, int]]

    def element(self, index: int) -> int:
        """The index in the tensor of the element at `index` of the array."""
        for first, count in self.runs:
            if index < count:
                return first + index
            index -= count
        raise IndexError(index)

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


def _sampled_runs(shared: int, total: int, operation: Operation | None, index: int) -> list[list[tuple[int, int]]]:
    """The runs to compare of tensor number `index`, in groups that can be computed in one call."""
    runs = list(_all_runs(shared, total, operation.align if operation else 1))
    common, donor_only = [run for run in runs if run[0] < shared], [run for run in runs if run[0] >= shared]
    if not operation or not operation.position_dependent:
        groups = [common, donor_only]
    elif shared < _LARGE and common:
        groups = [[common[index % len(common)]], donor_only]
    else:
        groups = [*([run] for run in common), donor_only]
    return [group for group in groups if group]


_REMEDY = "check disk and memory, then merge again"


def _all_runs(shared: int, total: int, align: int = 1) -> Iterator[tuple[int, int]]:
    """(first, count) of each run, multiples of `align`. No run holds both common rows and rows of the donor only."""
    run = -(-_RUN // align) * align
    for begin, end in ((0, shared), (shared, total)):
        last = max(begin, end - run)
        for position in sorted({begin, (begin + last) // 2, last}):
            first = position - (position - begin) % align
            if first < end:
                yield first, end - first if position == last else run


def _compare(
    tensor: OutputTensor,
    result: TensorInfo,
    source: TensorInfo | None,
    operation: Operation | None,
    sample: _Sample,
    allow_non_finite: bool,
) -> None:
    values = None
    if source and source.dtype == tensor.dtype:
        item = np.dtype((np.void, tensor.nbytes // max(result.numel, 1)))
        wrong = np.frombuffer(sample.raw(source), item) != np.frombuffer(sample.raw(result), item)
    else:
        values = sample.values(result)
        if source:
            wanted = sample.values(source)
            size = np.abs(wanted)
        else:
            wanted, size = _recomputed(tensor, operation, sample)
        wrong = ~_close(values, wanted, size, tensor.dtype)
        if allow_non_finite:  # float32 may overflow where float64 does not
            wrong &= np.isfinite(values)
    if wrong.any():
        index = int(np.argmax(wrong))
        if values is None and tensor.dtype in FLOATING:
            values = sample.values(result)
        value = "" if values is None else f" ({values[index]:g})"
        where = f"element {sample.element(index)} of {tensor.source.name} in {result.file.name}"
        raise MullError(f"self-check failed: {where} is wrong{value}", _REMEDY)


def _recomputed(
    tensor: OutputTensor, operation: Operation | None, sample: _Sample
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The elements computed in float64, and for each the sum of the absolute values of its terms."""
    models = [sample.values(info) for info in tensor.source.models]
    base = sample.values(tensor.source.base) if tensor.source.base else None
    with np.errstate(invalid="ignore", over="ignore"):
        if isinstance(operation, Interpolation):
            parts = ((1 - operation.lam) * models[0], operation.lam * models[1])
            return parts[0] + parts[1], np.abs(parts[0]) + np.abs(parts[1])
        assert operation is not None
        wanted = np.empty(len(models[0]))
        origin = None if base is None else torch.from_numpy(base)
        operation.apply(
            [torch.from_numpy(model) for model in models], origin, torch.from_numpy(wanted), sample.runs[0][0]
        )
        return wanted, np.abs(wanted) + sum(np.abs(values) for values in (*models, *([] if base is None else [base])))


def _close(
    got: NDArray[np.float64], wanted: NDArray[np.float64], size: NDArray[np.float64], dtype: str
) -> NDArray[np.bool_]:
    """Whether `got` is within one unit in the last place of `wanted`. `size`: sum of its terms' absolute values."""
    with np.errstate(invalid="ignore"):
        unit = np.maximum(np.abs(wanted), _SMALLEST_NORMAL[dtype]) * 2.0 ** -_MANTISSA[dtype]
        unit = np.maximum(unit, size * 2.0**-40)  # where the terms cancel, float64 has fewer correct digits
        overflow = np.isinf(got) & (np.abs(wanted) > _LARGEST[dtype])
        return (np.abs(got - wanted) <= unit) | overflow | (~np.isfinite(wanted) & ~np.isfinite(got))
