"""Executes a merge plan: streams both inputs through reused buffers into preallocated shards.

Memory does not grow with the model. A killed merge leaves a hidden sibling folder with a record of its finished
shards (output.py); the same command goes on from there, and the output folder appears complete or not at all.
"""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mull.checkpoints.blocks import Buffer, Files
from mull.checkpoints.checkpoint import INDEX
from mull.checkpoints.headers import ITEM_BYTES, TensorInfo
from mull.errors import MullError
from mull.merging import output
from mull.merging.jobs import Job, inputs_of, prepare_all
from mull.merging.manifest import check_hashes, content_hashes, shared_manifest
from mull.merging.plan import MergePlan, OutputShard, OutputTensor, in_words
from mull.merging.verify import verify

PIECE = 1 << 19
"""Elements per piece: large enough for the disk, small enough for the cache."""


class Piece(NamedTuple):
    """A range of elements of one output tensor that comes from the same sources throughout."""

    tensor: int
    """Its place in the shard."""
    first: int
    length: int


def merge(plan: MergePlan, out: Path, *, extra_files: dict[str, str] | None = None, **options: Any) -> Path:
    """Write the model of `plan` to the folder `out` and return it; see `merge_all`."""
    return merge_all([plan], [out], extra_files=[extra_files or {}], **options)[0]


def merge_all(
    plans: list[MergePlan],
    outs: list[Path],
    *,
    overwrite: bool = False,
    threads: int = 2,
    hash_inputs: bool = False,
    extra_files: list[dict[str, str]] | None = None,
    progress: Callable[[int], object] | None = None,
) -> list[Path]:
    """Write each plan's model to its folder, reading every input byte once for all of them together.

    The plans may differ in their coefficients alone. What a method measures before it merges it reads once more.

    `progress` is told bytes of `work` as they are done (increments; the first ones count what an earlier, killed run
    had finished), by one thread at a time. `extra_files` (name → text, for each plan) are written beside the weights.
    `hash_inputs` puts the SHA-256 of every input file into mull.json and makes sure that it is the same at the end, at
    the price of two more passes over them.

    Raises:
        MullError: an output exists (without `overwrite`), the disk is full, an input cannot be read or changed
            meanwhile, another merge is writing to an output, or the self-check found a wrong element.
    """
    if threads < 1:
        raise MullError(f"a merge needs at least one thread, got {threads}")
    plans, outs = list(plans), [Path(out) for out in outs]
    _check_alike(plans, outs)
    extras = extra_files or [{}] * len(plans)
    _check_extra(extras, len(plans))
    for out in outs:
        output.check_place(out)
    finished = [output.is_finished(out, plan.digest) for plan, out in zip(plans, outs, strict=True)]
    results = outs
    if any(finished) and not all(finished):  # an earlier run was killed between putting its results in their places
        left = [i for i, done in enumerate(finished) if not done]
        plans, outs, extras = [plans[i] for i in left], [outs[i] for i in left], [extras[i] for i in left]
    inputs = list(plans[0].group.by_role.values())
    partials = [output.partial_folder(out) for out in outs]
    intra_op = torch.get_num_threads()
    out = outs[0]
    try:
        for plan, out in zip(plans, outs, strict=True):
            output.check_target(out, inputs, overwrite=overwrite)
            plan.check_companions()
        fresh = [plan for plan, partial in zip(plans, partials, strict=True) if not partial.exists()]
        if fresh:
            fresh[0].check_space(outs[0], times=len(fresh))
        with ExitStack() as locks:
            for partial, out in zip(partials, outs, strict=True):
                locks.enter_context(output.locked(partial, out))
                output.check_target(out, inputs, overwrite=overwrite)  # another merge may have finished in between
            out = outs[0]
            jobs = [_resumed(plan, partial) for plan, partial in zip(plans, partials, strict=True)]
            _fill(jobs, threads, hash_inputs, extras, progress)
            for partial, out in zip(partials, outs, strict=True):
                output.swap_in(partial, out.resolve())
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            what = f"the disk of {out} is full: the result needs {in_words(sum(plan.nbytes for plan in plans))}"
            raise MullError(what, "free some space and run it again") from None
        what = f"cannot write {out}: {error.strerror}"
        raise MullError(what, "check the folder's permissions and the disk") from None
    finally:
        torch.set_num_threads(intra_op)  # the workers' own setting becomes the default of threads started later
    return results


def _check_alike(plans: list[MergePlan], outs: list[Path]) -> None:
    if not plans or len(plans) != len(outs):
        raise MullError(f"{len(plans)} merges for {len(outs)} folders", "give one folder for each")
    headers = {tuple(shard.header for shard in plan.shards) for plan in plans}
    if len({id(plan.group) for plan in plans}) > 1 or len(headers) > 1 or len({plan.method for plan in plans}) > 1:
        raise MullError("these merges cannot share one pass", "let them differ in their coefficients alone")
    if len({out.resolve() for out in outs}) < len(outs):
        raise MullError("two results of one run go to the same folder", "give each its own")


def _check_extra(extra_files: list[dict[str, str]], count: int) -> None:
    if len(extra_files) != count:
        raise MullError(f"extra files for {len(extra_files)} of {count} merges", "give one mapping for each")
    for name in (name for files in extra_files for name in files):
        if Path(name).name != name or name.startswith(".") or name.endswith((".safetensors", ".index.json")):
            raise MullError(f"{name!r} cannot be written beside the weights", "give a plain file name")


def _resumed(plan: MergePlan, partial: Path) -> Job:
    sizes = {shard.file: shard.nbytes for shard in plan.shards}
    return Job(plan, partial, {}, output.finished_shards(partial, plan.digest, sizes))


def _fill(
    jobs: list[Job],
    threads: int,
    hash_inputs: bool,
    extra_files: list[dict[str, str]],
    progress: Callable[[int], object] | None,
) -> None:
    """Write everything into the partial folders. What an error leaves there is kept only if a later run can use it."""
    telling = Lock()

    def tell(nbytes: int) -> None:
        if progress:
            with telling:
                progress(nbytes)

    hashes = content_hashes(jobs[0].plan) if hash_inputs else {}
    try:
        for job in jobs:
            for shard in job.plan.shards:
                if shard.file not in job.done:
                    _reserve(job.partial / shard.file, shard)
        prepare_all(jobs, threads, tell)
        for place, shard in enumerate(jobs[0].plan.shards):
            waiting = [job for job in jobs if shard.file not in job.done]
            if waiting:
                _write_shard(waiting, place, threads, tell)
            for job in jobs:
                if job not in waiting:
                    tell(shard.nbytes)
            for job in waiting:
                job.done.append(shard.file)
                output.record_finished(job.partial, job.plan.digest, job.done)
        try:
            jobs[0].plan.check_unchanged()
            for job in jobs:
                verify(job.plan, job.partial, job.operations)
        except MullError:
            for job in jobs:
                job.done.clear()
            raise
        if hash_inputs:
            check_hashes(jobs[0].plan, hashes)
        manifest = shared_manifest(jobs[0].plan, hashes)
        for job, files in zip(jobs, extra_files, strict=True):
            described = {"plan": job.plan.digest, **job.plan.described, **manifest}
            _write_small_files(job.plan, job.partial, described, files)
    except BaseException as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        for job in jobs:
            if full or not job.done:
                shutil.rmtree(job.partial, ignore_errors=True)
        raise


def _write_small_files(plan: MergePlan, partial: Path, manifest: dict[str, object], extra: dict[str, str]) -> None:
    for path in plan.group.donor.companions():
        output.copy_file(path, partial / path.name)
    if plan.dtype is not None:
        output.write_text(partial / "config.json", json.dumps(plan.config(), indent=2) + "\n")
    for name, text in extra.items():
        output.write_text(partial / name, text)
    if len(plan.shards) > 1:
        output.write_text(partial / INDEX, json.dumps(plan.index(), indent=2) + "\n")
    output.write_text(partial / output.MANIFEST, json.dumps(manifest, indent=2) + "\n")


def _reserve(path: Path, shard: OutputShard) -> None:
    """Take the shard's whole space on disk before any work is done."""
    with path.open("r+b" if path.exists() else "w+b") as file:
        if hasattr(os, "posix_fallocate"):  # not on macOS, where a full disk shows only while writing
            os.posix_fallocate(file.fileno(), 0, shard.nbytes)
        os.truncate(file.fileno(), shard.nbytes)


def _write_shard(jobs: list[Job], place: int, threads: int, tell: Callable[[int], None]) -> None:
    """Write one shard of every job; pieces are the parallelism."""
    shards = [job.plan.shards[place] for job in jobs]
    pieces, longest = _pieces(jobs, place)
    taking, stop = Lock(), threading.Event()
    wide = max((ITEM_BYTES[tensor.dtype] for tensor in shards[0].tensors), default=1)
    many = 1 + max((len(inputs_of(tensor.source)) for tensor in shards[0].tensors), default=0)

    def worker() -> None:
        torch.set_num_threads(1)  # of this thread: more would only contend
        reader = _Reader(files, [Buffer(longest * 8) for _ in range(many)])
        mixed = Buffer(longest * wide)
        while not stop.is_set():
            with taking:
                piece = next(pieces, None)
            if piece is None:
                return
            reader.begin(piece)
            for job, shard, target in zip(jobs, shards, targets, strict=True):
                tensor = shard.tensors[piece.tensor]
                data = _compute(reader, job, tensor, piece, mixed)
                _pwrite(target, data, tensor.start + piece.first * ITEM_BYTES[tensor.dtype])
                tell(len(data))

    with Files() as files, ExitStack() as stack, ThreadPoolExecutor(threads) as pool:
        for tensor in shards[0].tensors:
            for info in (*inputs_of(tensor.source), tensor.source.donor):
                files.open(info.file)
        targets = [os.open(job.partial / shard.file, os.O_WRONLY) for job, shard in zip(jobs, shards, strict=True)]
        for target in targets:
            stack.callback(os.close, target)
        stack.callback(pool.shutdown, wait=True)
        stack.callback(stop.set)
        for target, shard in zip(targets, shards, strict=True):
            _pwrite(target, memoryview(shard.header), 0)
            tell(len(shard.header))
        futures = [pool.submit(worker) for _ in range(threads)]
        wait(futures, return_when=FIRST_EXCEPTION)
        stop.set()
        for future in futures:
            future.result()
        for target in targets:
            os.fsync(target)


def _pieces(jobs: list[Job], place: int) -> tuple[Iterator[Piece], int]:
    """The shard's pieces and the longest one's elements."""

    def steps(tensor: OutputTensor) -> int:
        operations = [job.operations.get(tensor.source.name) for job in jobs]
        align = math.lcm(*(operation.align for operation in operations if operation))
        return max(PIECE // align, 1) * align

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
    """The inputs of one piece, each read once whoever asks for it."""

    def __init__(self, files: Files, buffers: list[Buffer]) -> None:
        self._files = files
        self._buffers = buffers
        self._read: dict[TensorInfo, Buffer] = {}

    def begin(self, piece: Piece) -> None:
        self._piece = piece
        self._read.clear()

    def bytes(self, info: TensorInfo) -> memoryview:
        """The piece of that tensor as it lies in the file."""
        size = ITEM_BYTES[info.dtype]
        if info not in self._read:
            self._read[info] = self._buffers[len(self._read)]
            into = self._read[info].bytes[: self._piece.length * size]
            self._files.read(info.file, info.start + self._piece.first * size, into)
        return self._read[info].bytes[: self._piece.length * size]

    def values(self, info: TensorInfo) -> Tensor:
        """The piece of that tensor, flattened."""
        self.bytes(info)
        return self._read[info].view(info.dtype, self._piece.length)


def _compute(reader: _Reader, job: Job, tensor: OutputTensor, piece: Piece, mixed: Buffer) -> memoryview:
    """The bytes of one piece of the result."""
    source = tensor.source
    only = source.donor if piece.first >= source.shared else job.plan.copies(tensor)
    if only is not None and only.dtype == tensor.dtype:
        return reader.bytes(only)
    result = mixed.view(tensor.dtype, piece.length)
    if only is not None:
        result.copy_(reader.values(only))
    else:
        models = [reader.values(info) for info in source.models]
        base = reader.values(source.base) if source.base else None
        job.operations[source.name].into(models, base, result, piece.first)
    return mixed.bytes[: piece.length * ITEM_BYTES[tensor.dtype]]


def _pwrite(descriptor: int, data: memoryview, offset: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(descriptor, data[done:], offset + done)
