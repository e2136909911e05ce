"""Writes one shard of a merge: its pieces, in parallel, through reused buffers."""

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

from mull.checkpoints.blocks import Buffer, Files, write_back
from mull.checkpoints.headers import ITEM_BYTES, TensorInfo
from mull.merging.streaming import devices
from mull.merging.streaming.devices import Host
from mull.merging.streaming.jobs import Job, inputs_of
from mull.merging.streaming.plan import OutputTensor

_DIRTY = 1 << 25
"""Bytes after which the disk begins to write, so that it does not only begin when all is computed."""


class Piece(NamedTuple):
    """A range of elements of one output tensor that comes from the same sources throughout."""

    tensor: int
    """Its place in the shard."""
    first: int
    length: int


def write_shard(jobs: list[Job], place: int, threads: int, device: str, tell: Callable[[int], None]) -> None:
    """Write one shard of every job; pieces are the parallelism."""
    shards = [job.plan.shards[place] for job in jobs]
    pieces, longest = _pieces(jobs, place, devices.stage(device).piece)
    taking, stop = Lock(), threading.Event()
    wide = max((ITEM_BYTES[tensor.dtype] for tensor in shards[0].tensors), default=1)
    read = [[*inputs_of(tensor.source), tensor.source.donor] for tensor in shards[0].tensors]
    many = max(map(len, read), default=0)
    wide_read = max((ITEM_BYTES[info.dtype] for infos in read for info in infos), default=1)

    def worker() -> None:
        torch.set_num_threads(1)  # of this thread: more would only contend
        with devices.stage(device) as stage:
            reader = _Reader(files, [stage.buffer(longest * wide_read) for _ in range(many)], stage)
            mixed = stage.buffer(longest * wide)
            while not stop.is_set():
                with taking:
                    piece = next(pieces, None)
                if piece is None:
                    return
                reader.begin(piece)
                for job, shard, target in zip(jobs, shards, targets, strict=True):
                    tensor = shard.tensors[piece.tensor]
                    data = _compute(reader, job, tensor, piece, mixed, stage)
                    reader.check()
                    target.write(data, tensor.start + piece.first * ITEM_BYTES[tensor.dtype])
                    tell(len(data))

    with Files(mapped=device == "cpu") as files, ThreadPoolExecutor(threads) as pool, ExitStack() as stack:
        for info in (info for infos in read for info in infos):
            files.open(info.file)
        targets: list[_Target] = []
        for job, shard in zip(jobs, shards, strict=True):
            targets.append(_Target(os.open(job.partial / shard.file, os.O_WRONLY)))
            stack.callback(os.close, targets[-1].descriptor)
        stack.callback(pool.shutdown, wait=True)  # before the files are closed, and once `stop` is set
        stack.callback(stop.set)
        for target, shard in zip(targets, shards, strict=True):
            target.write(memoryview(shard.header), 0)
            tell(len(shard.header))
        futures = [pool.submit(worker) for _ in range(threads)]
        wait(futures, return_when=FIRST_EXCEPTION)
        stop.set()
        for future in futures:
            future.result()
        for target in targets:
            os.fsync(target.descriptor)


class _Target:
    """A file to write, from its beginning to its end but for a few pieces that change places."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._writing = Lock()  # a file's writers would spin in the kernel where they can sleep
        self._written = self._begun = 0

    def write(self, data: memoryview, offset: int) -> None:
        with self._writing:
            done = 0
            while done < len(data):
                done += os.pwrite(self.descriptor, data[done:], offset + done)
            self._written += done
            first, length = self._begun, self._written - self._begun
            if length < _DIRTY:
                return
            self._begun = self._written
        write_back(self.descriptor, first, length)


def _pieces(jobs: list[Job], place: int, wanted: int) -> tuple[Iterator[Piece], int]:
    """The shard's pieces, of about `wanted` elements, and the longest one's elements."""

    def steps(tensor: OutputTensor) -> int:
        operations = [job.operations.get(tensor.source.name) for job in jobs]
        align = math.lcm(*(operation.align for operation in operations if operation))
        return max(wanted // align, 1) * align

    def pieces() -> Iterator[Piece]:
        for i, (tensor, step) in enumerate(zip(tensors, lengths, strict=True)):
            shared, total = tensor.source.shared, tensor.source.donor.numel
            for begin, end in ((0, shared), (shared, total)):  # a piece never straddles the end of the common rows
                for first in range(begin, end, step):
                    yield Piece(i, first, min(step, end - first))

    tensors = jobs[0].plan.shards[place].tensors
    lengths = [steps(tensor) for tensor in tensors]
    longest = (min(step, tensor.source.donor.numel) for tensor, step in zip(tensors, lengths, strict=True))
    return pieces(), max(longest, default=1)


class _Reader:
    """The inputs of one piece, each looked up once whoever asks for it."""

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
        """The piece of that tensor, flattened."""
        if info not in self._values:
            buffer = self._buffers[len(self._values)]
            self._values[info] = self._files.elements(info, self._piece.first, self._piece.length, buffer)
        return self._values[info]

    def sent(self, info: TensorInfo) -> Tensor:
        """The same where the arithmetic runs."""
        if info not in self._sent:
            self._sent[info] = self._stage.send(self.values(info))
        return self._sent[info]

    def check(self) -> None:
        """Raise MullError if what was looked at may not be what the files hold."""
        self._files.check(info.file for info in self._values)


def _compute(reader: _Reader, job: Job, tensor: OutputTensor, piece: Piece, mixed: Buffer, stage: Host) -> memoryview:
    """The bytes of one piece of the result."""
    source = tensor.source
    result = mixed.view(tensor.dtype, piece.length)
    only = source.donor if piece.first >= source.shared else job.plan.copies(tensor)
    if only is not None:
        result.copy_(reader.values(only))  # as they are where the dtype is the same
    else:
        operation = job.operations[source.name]
        values = reader.sent if operation.anywhere else reader.values
        models = [values(info) for info in source.models]
        base = values(source.base) if source.base else None
        if operation.anywhere:
            computed = stage.room(result)
            operation.into(models, base, computed, piece.first)
            stage.fetch(computed, result)
        else:
            operation.into(models, base, result, piece.first)
    return mixed.bytes[: piece.length * ITEM_BYTES[tensor.dtype]]
