"""Writes one shard of a merge: several threads compute and write its pieces, each with buffers that it reuses."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack
from threading import Lock
from typing import NamedTuple

import torch
from torch import Tensor

from mull import portable
from mull.checkpoints.blocks import Buffer, Files, write_back
from mull.checkpoints.headers import ITEM_BYTES, TensorInfo
from mull.merging.streaming import devices
from mull.merging.streaming.devices import Host
from mull.merging.streaming.finite import all_finite, result_error
from mull.merging.streaming.jobs import Job, inputs_of
from mull.merging.streaming.plan import OutputTensor

_DIRTY = 1 << 25
"""Written bytes after which the system is told to copy them to the disk, so that it does so during the computation."""


class Piece(NamedTuple):
    """A range of elements of one output tensor. All of them come from the same models."""

    tensor: int
    """Index of the tensor in the shard."""
    first: int
    length: int


def write_shard(jobs: list[Job], index: int, threads: int, device: str, report: Callable[[int], None]) -> None:
    """Write shard number `index` of every job. Threads take one piece after the other and write it for all jobs."""
    shards = [job.plan.shards[index] for job in jobs]
    pieces, longest = _pieces(jobs, index, devices.stage(device).piece_size)
    next_piece, stop = Lock(), threading.Event()
    output_item_bytes = max((ITEM_BYTES[tensor.dtype] for tensor in shards[0].tensors), default=1)
    read = [[*inputs_of(tensor.source), tensor.source.donor] for tensor in shards[0].tensors]
    buffer_count = max(map(len, read), default=0)
    input_item_bytes = max((ITEM_BYTES[info.dtype] for infos in read for info in infos), default=1)

    def worker() -> None:
        torch.set_num_threads(1)  # the workers already use all cores
        with devices.stage(device) as stage:
            reader = _Reader(files, [stage.buffer(longest * input_item_bytes) for _ in range(buffer_count)], stage)
            out_buffer = stage.buffer(longest * output_item_bytes)
            while not stop.is_set():
                with next_piece:
                    piece = next(pieces, None)
                if piece is None:
                    return
                reader.begin(piece)
                for job, shard, target in zip(jobs, shards, targets, strict=True):
                    tensor = shard.tensors[piece.tensor]
                    data = _compute(reader, job, tensor, piece, out_buffer, stage)
                    reader.check()
                    if not (job.plan.allow_non_finite or all_finite(data, tensor.dtype)):
                        raise result_error(job.plan.group, tensor, piece.first, data)
                    target.write(data, tensor.start + piece.first * ITEM_BYTES[tensor.dtype])
                    report(len(data))

    with Files(mapped=device == "cpu") as files, ThreadPoolExecutor(threads) as pool, ExitStack() as stack:
        for info in (info for infos in read for info in infos):
            files.open(info.file)
        targets: list[_Target] = []
        for job, shard in zip(jobs, shards, strict=True):
            targets.append(_Target(os.open(job.partial / shard.file, os.O_WRONLY | portable.BINARY)))
            stack.callback(os.close, targets[-1].descriptor)
        stack.callback(pool.shutdown, wait=True)  # runs after `stop.set` and before the files are closed
        stack.callback(stop.set)
        for target, shard in zip(targets, shards, strict=True):
            target.write(memoryview(shard.header), 0)
            report(len(shard.header))
        futures = [pool.submit(worker) for _ in range(threads)]
        wait(futures, return_when=FIRST_EXCEPTION)
        stop.set()
        for future in futures:
            future.result()
        for target in targets:
            os.fsync(target.descriptor)


class _Target:
    """A file that threads write from beginning to end, except that neighbouring pieces may change their order."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._writing = Lock()  # without it, writers of one file would spin in the kernel instead of sleeping
        self._written = self._begun = 0

    def write(self, data: memoryview, offset: int) -> None:
        with self._writing:
            done = 0
            while done < len(data):
                done += portable.write_at(self.descriptor, data[done:], offset + done)
            self._written += done
            first, length = self._begun, self._written - self._begun
            if length < _DIRTY:
                return
            self._begun = self._written
        write_back(self.descriptor, first, length)


def _pieces(jobs: list[Job], index: int, wanted: int) -> tuple[Iterator[Piece], int]:
    """The shard's pieces, of about `wanted` elements each, and the number of elements of the longest one."""

    def steps(tensor: OutputTensor) -> int:
        operations = [job.operations.get(tensor.source.name) for job in jobs]
        align = math.lcm(*(operation.align for operation in operations if operation))
        return max(wanted // align, 1) * align

    def pieces() -> Iterator[Piece]:
        for i, (tensor, step) in enumerate(zip(tensors, lengths, strict=True)):
            shared, total = tensor.source.shared, tensor.source.donor.numel
            # A piece holds either rows that all models have or rows that only the donor has.
            for begin, end in ((0, shared), (shared, total)):
                for first in range(begin, end, step):
                    yield Piece(i, first, min(step, end - first))

    tensors = jobs[0].plan.shards[index].tensors
    lengths = [steps(tensor) for tensor in tensors]
    longest = (min(step, tensor.source.donor.numel) for tensor, step in zip(tensors, lengths, strict=True))
    return pieces(), max(longest, default=1)


class _Reader:
    """The inputs of one piece. Each is read, and sent to the device, once for all jobs."""

    def __init__(self, files: Files, buffers: list[Buffer], stage: Host) -> None:
        self._files = files
        self._buffers = buffers
        self._stage = stage
        self._values: dict[TensorInfo, Tensor] = {}
        self._sent: dict[TensorInfo, Tensor] = {}

    def begin(self, piece: Piece) -> None:
        self._piece = piece
        self._values.clear()
        self._sent.clear()

    def values(self, info: TensorInfo) -> Tensor:
        """The piece of that tensor: `[length]`, in the CPU's memory."""
        if info not in self._values:
            buffer = self._buffers[len(self._values)]
            self._values[info] = self._files.elements(info, self._piece.first, self._piece.length, buffer)
        return self._values[info]

    def sent(self, info: TensorInfo) -> Tensor:
        """The piece of that tensor on the device."""
        if info not in self._sent:
            self._sent[info] = self._stage.send(self.values(info))
        return self._sent[info]

    def check(self) -> None:
        """Raise MullError if a file could not be read in full, so that the values may be wrong."""
        self._files.check(info.file for info in self._values)


def _compute(reader: _Reader, job: Job, tensor: OutputTensor, piece: Piece, buffer: Buffer, stage: Host) -> memoryview:
    """The bytes of one piece of the result."""
    source = tensor.source
    result = buffer.view(tensor.dtype, piece.length)
    copied = source.donor if piece.first >= source.shared else job.plan.copied_tensor(tensor)
    if copied is not None:
        result.copy_(reader.values(copied))  # byte for byte if the dtype is the same
    else:
        operation = job.operations[source.name]
        values = reader.sent if operation.device_independent else reader.values
        models = [values(info) for info in source.models]
        base = values(source.base) if source.base else None
        if operation.device_independent:
            computed = stage.allocate_for(result)
            operation.apply(models, base, computed, piece.first)
            stage.fetch(computed, result)
        else:
            operation.apply(models, base, result, piece.first)
    return buffer.bytes[: piece.length * ITEM_BYTES[tensor.dtype]]
