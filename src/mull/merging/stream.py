"""Executes a merge plan: streams both inputs through reused buffers into preallocated shards.

Memory does not grow with the model. A killed merge leaves a hidden sibling folder with a record of its finished
shards (output.py); the same command goes on from there, and the output folder appears complete or not at all.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

import torch

from mull import __version__
from mull.checkpoints.blocks import Buffer, Files, read_piece
from mull.checkpoints.checkpoint import INDEX, Checkpoint
from mull.checkpoints.fingerprint import fingerprint
from mull.checkpoints.headers import FLOATING, ITEM_BYTES, TensorInfo
from mull.errors import MullError
from mull.merging import output
from mull.merging.interpolation import interpolate
from mull.merging.plan import MergePlan, OutputShard, OutputTensor, in_words
from mull.merging.verify import verify

PIECE = 1 << 19
"""Elements per piece: large enough for the disk, small enough for the cache."""
COMPUTE_BLOCK = 1 << 16
"""Elements computed at a time: two float32 buffers of it stay in a core's second-level cache."""
MANIFEST = "mull.json"


class Piece(NamedTuple):
    """A range of elements of one output tensor that comes from the same sources throughout."""

    tensor: OutputTensor
    first: int
    length: int


def merge(
    plan: MergePlan,
    out: Path,
    *,
    overwrite: bool = False,
    threads: int = 2,
    hash_inputs: bool = False,
    extra_files: dict[str, str] | None = None,
    progress: Callable[[int], object] | None = None,
) -> Path:
    """Write the model of `plan` to the folder `out` and return it.

    `progress` is told output bytes as they are written (increments; the first one counts what an earlier, killed run
    had finished), by one thread at a time. `extra_files` (name → text) are written beside the weights. `hash_inputs`
    puts the SHA-256 of every input file into mull.json, at the price of one more pass over them.

    Raises:
        MullError: `out` exists (without `overwrite`), the disk is full, an input cannot be read or changed meanwhile,
            another merge is writing to `out`, or the self-check found a wrong element.
    """
    if threads < 1:
        raise MullError(f"a merge needs at least one thread, got {threads}")
    inputs = [side for side in (plan.pair.instruct, plan.pair.thinking, plan.pair.base) if side]
    partial = output.partial_folder(out)
    intra_op = torch.get_num_threads()
    try:
        output.check_target(out, inputs, overwrite=overwrite)
        if not partial.exists():
            plan.check_space(out)
        with output.locked(partial, out):
            output.check_target(out, inputs, overwrite=overwrite)  # another merge may have finished in between
            _fill(plan, partial, threads, hash_inputs, extra_files or {}, progress)
            output.swap_in(partial, out.resolve())
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            what = f"the disk of {out} is full: the result needs {in_words(plan.nbytes)}"
            raise MullError(what, "free some space and run it again") from None
        what = f"cannot write {out}: {error.strerror}"
        raise MullError(what, "check the folder's permissions and the disk") from None
    finally:
        torch.set_num_threads(intra_op)  # the workers' own setting becomes the default of threads started later
    return out


def _fill(
    plan: MergePlan,
    partial: Path,
    threads: int,
    hash_inputs: bool,
    extra_files: dict[str, str],
    progress: Callable[[int], object] | None,
) -> None:
    """Write everything into the partial folder. What an error leaves there is kept only if a later run can use it."""
    done = output.finished_shards(partial, plan.digest, {shard.file: shard.nbytes for shard in plan.shards})
    try:
        for shard in plan.shards:
            if shard.file not in done:
                _reserve(partial / shard.file, shard)
        for shard in plan.shards:
            if shard.file not in done:
                _write_shard(partial / shard.file, shard, threads, progress)
                done.append(shard.file)
                output.record_finished(partial, plan.digest, done)
            elif progress:
                progress(shard.nbytes)
        try:
            plan.check_unchanged()
            verify(plan, partial)
        except MullError:
            done.clear()
            raise
        for path in plan.pair.donor.companions():
            output.copy_file(path, partial / path.name)
        if plan.dtype is not None:
            output.write_text(partial / "config.json", json.dumps(plan.config(), indent=2) + "\n")
        for name, text in extra_files.items():
            output.write_text(partial / name, text)
        if len(plan.shards) > 1:
            output.write_text(partial / INDEX, json.dumps(plan.index(), indent=2) + "\n")
        manifest = _manifest(plan, hash_inputs=hash_inputs)
        output.write_text(partial / MANIFEST, json.dumps(manifest, indent=2) + "\n")
    except BaseException as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or not done:
            shutil.rmtree(partial, ignore_errors=True)
        raise


def _reserve(path: Path, shard: OutputShard) -> None:
    """Take the shard's whole space on disk before any work is done."""
    with path.open("r+b" if path.exists() else "w+b") as file:
        if hasattr(os, "posix_fallocate"):  # not on macOS, where a full disk shows only while writing
            os.posix_fallocate(file.fileno(), 0, shard.nbytes)
        os.truncate(file.fileno(), shard.nbytes)


def _write_shard(path: Path, shard: OutputShard, threads: int, progress: Callable[[int], object] | None) -> None:
    pieces = _pieces(shard)
    taking, telling, stop = threading.Lock(), threading.Lock(), threading.Event()

    def tell(nbytes: int) -> None:
        if progress:
            with telling:
                progress(nbytes)

    def worker() -> None:
        torch.set_num_threads(1)  # of this thread: pieces are the parallelism, and more would only contend
        wide = max((ITEM_BYTES[tensor.dtype] for tensor in shard.tensors), default=1)
        buffers = [Buffer(PIECE * 8), Buffer(PIECE * 8), Buffer(PIECE * wide)]
        while not stop.is_set():
            with taking:
                piece = next(pieces, None)
            if piece is None:
                return
            data = _compute(files, piece, buffers)
            _pwrite(target, data, piece.tensor.start + piece.first * ITEM_BYTES[piece.tensor.dtype])
            tell(len(data))

    with Files() as files, ThreadPoolExecutor(threads) as pool:
        for tensor in shard.tensors:
            for info in (tensor.source.instruct, tensor.source.thinking, tensor.source.donor):
                files.open(info.file)
        target = os.open(path, os.O_WRONLY)
        try:
            _pwrite(target, memoryview(shard.header), 0)
            tell(len(shard.header))
            futures = [pool.submit(worker) for _ in range(threads)]
            wait(futures, return_when=FIRST_EXCEPTION)
            stop.set()
            for future in futures:
                future.result()
            os.fsync(target)
        finally:
            stop.set()
            pool.shutdown(wait=True)
            os.close(target)


def _pieces(shard: OutputShard) -> Iterator[Piece]:
    for tensor in shard.tensors:
        shared, total = tensor.source.shared, tensor.source.donor.numel
        for begin, end in ((0, shared), (shared, total)):  # a piece never straddles the end of the common rows
            for first in range(begin, end, PIECE):
                yield Piece(tensor, first, min(PIECE, end - first))


def _compute(files: Files, piece: Piece, buffers: list[Buffer]) -> memoryview:
    """The bytes of one piece of the result, in one of the buffers."""
    tensor, source = piece.tensor, piece.tensor.source
    only: TensorInfo | None = None
    if piece.first >= source.shared or source.donor.dtype not in FLOATING:
        only = source.donor
    elif tensor.lam in (0, 1):
        only = source.thinking if tensor.lam == 1 else source.instruct
    nbytes = piece.length * ITEM_BYTES[tensor.dtype]
    if only is not None and only.dtype == tensor.dtype:
        data = buffers[0].bytes[:nbytes]
        files.read(only.file, only.start + piece.first * ITEM_BYTES[only.dtype], data)
        return data
    mixed = buffers[2].view(tensor.dtype, piece.length)
    if only is not None:
        mixed.copy_(read_piece(files, only, piece.first, piece.length, buffers[0]))
    else:
        i = read_piece(files, source.instruct, piece.first, piece.length, buffers[0])
        t = read_piece(files, source.thinking, piece.first, piece.length, buffers[1])
        interpolate(i, t, tensor.lam, mixed, block=COMPUTE_BLOCK)
    return buffers[2].bytes[:nbytes]


def _pwrite(descriptor: int, data: memoryview, offset: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(descriptor, data[done:], offset + done)


def _manifest(plan: MergePlan, *, hash_inputs: bool) -> dict[str, object]:
    described = {**plan.described}
    for key, side in (("instruct", plan.pair.instruct), ("thinking", plan.pair.thinking)):
        files = _fingerprints(side, hash_inputs)
        described[key] = {"name": side.name, "fingerprint": fingerprint(side), "files": files}
    donor = plan.pair.donor
    warnings = [f"{f.code}: {f.what}" for f in plan.pair.findings() if f.severity != "same"]
    return {
        "mull": __version__,
        "torch": torch.__version__,
        **described,
        "donor_name": donor.name,
        "findings": warnings,
    }


def _fingerprints(side: Checkpoint, hash_inputs: bool) -> dict[str, dict[str, object]]:
    """Size and header hash of each file; its content hash on request, or for free from the hub's cache."""
    prints: dict[str, dict[str, object]] = {}
    for path in side.files:
        with path.open("rb") as file:
            head = file.read(8)
            header = hashlib.sha256(head + file.read(int.from_bytes(head, "little"))).hexdigest()
        entry: dict[str, object] = {"bytes": path.stat().st_size, "header_sha256": header}
        blob = path.resolve().name
        if hash_inputs:
            with path.open("rb") as file:
                entry["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
        elif path.is_symlink() and len(blob) == 64:  # the hub's cache names a file by its SHA-256
            entry["sha256"] = blob
        prints[path.name] = entry
    return prints
