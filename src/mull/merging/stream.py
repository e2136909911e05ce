"""Executes a merge plan: streams both inputs through reused buffers into preallocated shards.

Memory does not grow with the model. A killed merge leaves a hidden sibling folder with a record of its finished
shards; the same command goes on from there, and the output folder appears complete or not at all.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch

from mull import __version__
from mull.checkpoints.blocks import Buffer, Files, read_piece
from mull.checkpoints.checkpoint import INDEX, Checkpoint
from mull.checkpoints.headers import FLOATING, ITEM_BYTES, TensorInfo
from mull.errors import MullError
from mull.merging.interpolation import interpolate
from mull.merging.plan import MergePlan, OutputShard, OutputTensor
from mull.merging.verify import verify

PIECE = 1 << 20
"""Elements per piece: large enough for the disk, small enough for the cache."""
COMPUTE_BLOCK = 1 << 16
"""Elements computed at a time: two float32 buffers of it stay in a core's second-level cache."""
MANIFEST = "mull.json"
_JOURNAL = "journal.json"
_LOCK = "lock"


class Piece(NamedTuple):
    """A range of elements of one output tensor that comes from the same sources throughout."""

    tensor: OutputTensor
    first: int
    count: int


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
    had finished). `extra_files` (name → text) are written beside the weights. `hash_inputs` puts the SHA-256 of every
    input file into mull.json, at the price of one more pass over them.

    Raises:
        MullError: `out` exists (without `overwrite`), the disk is full, an input cannot be read or changed meanwhile,
            another merge is writing to `out`, or the self-check found a wrong element.
    """
    _check_target(plan, out, overwrite)
    partial = out.resolve().with_name(f".{out.resolve().name}.partial")
    fresh = not partial.exists()
    if fresh:
        plan.check_space(out)
    partial.mkdir(parents=True, exist_ok=True)
    with _locked(partial, out):
        done = _read_journal(partial, plan)
        try:
            for shard in plan.shards:
                _reserve(partial / shard.file, shard)
            for shard in plan.shards:
                if shard.file in done:
                    if progress:
                        progress(shard.nbytes)
                    continue
                _write_shard(partial / shard.file, shard, threads, progress)
                done.append(shard.file)
                _write_text(partial / _JOURNAL, json.dumps({"digest": plan.digest, "done": done}))
        except OSError as error:
            if error.errno in (28, 122):  # ENOSPC, EDQUOT: what was reserved is given back
                shutil.rmtree(partial)
                raise MullError(
                    f"the disk of {out} is full: the result needs {plan.nbytes / 1e9:.2f} GB",
                    "free some space and run it again",
                ) from None
            raise MullError(
                f"cannot write {out}: {error.strerror}", "check the folder's permissions and the disk"
            ) from None
        _check_unchanged(plan)
        verify(plan, partial)
        manifest = _manifest(plan, hash_inputs=hash_inputs)
        for path in plan.pair.donor.companions():
            shutil.copyfile(path, partial / path.name)
        for name, text in (extra_files or {}).items():
            _write_text(partial / name, text)
        if len(plan.shards) > 1:
            _write_text(partial / INDEX, json.dumps(plan.index(), indent=2) + "\n")
        _write_text(partial / MANIFEST, json.dumps(manifest, indent=2) + "\n")
        (partial / _JOURNAL).unlink()
        (partial / _LOCK).unlink()
        _swap_in(partial, out.resolve())
    return out


def _check_target(plan: MergePlan, out: Path, overwrite: bool) -> None:
    target = out.resolve()
    for side in (plan.pair.instruct, plan.pair.thinking):
        source = side.folder.resolve()
        if target == source or target in source.parents:
            raise MullError(f"the output {out} holds the input {side.name}", "choose another output folder")
    if target.is_file():
        raise MullError(f"the output {out} is a file", "choose a folder that does not exist yet")
    if target.exists() and any(target.iterdir()):
        if not overwrite:
            raise MullError(f"the output folder {out} exists", "choose another, or pass --overwrite to replace it")
        if not (target / "config.json").is_file():
            raise MullError(
                f"{out} is not a model folder, so it is not replaced", "remove it yourself, or choose another"
            )


def _reserve(path: Path, shard: OutputShard) -> None:
    """Take the shard's whole space on disk before any work is done; keeps what a killed run has written."""
    with path.open("r+b" if path.exists() else "w+b") as file:
        os.posix_fallocate(file.fileno(), 0, shard.nbytes)
        os.truncate(file.fileno(), shard.nbytes)


def _write_shard(path: Path, shard: OutputShard, threads: int, progress: Callable[[int], object] | None) -> None:
    pieces = _pieces(shard)
    take, stop = threading.Lock(), threading.Event()

    def worker() -> None:
        torch.set_num_threads(1)  # per thread: pieces are the parallelism, and more would only contend
        wide = max((ITEM_BYTES[tensor.dtype] for tensor in shard.tensors), default=1)
        buffers = [Buffer(PIECE * 8), Buffer(PIECE * 8), Buffer(PIECE * wide)]
        while not stop.is_set():
            with take:
                piece = next(pieces, None)
            if piece is None:
                return
            data = _compute(files, piece, buffers)
            _pwrite(target, data, piece.tensor.start + piece.first * ITEM_BYTES[piece.tensor.dtype])
            if progress:
                progress(len(data))

    with Files() as files, ThreadPoolExecutor(threads) as pool:
        for tensor in shard.tensors:
            for info in (tensor.source.instruct, tensor.source.thinking, tensor.source.donor):
                files.open(info.file)
        target = os.open(path, os.O_WRONLY)
        try:
            _pwrite(target, memoryview(shard.header), 0)
            futures = [pool.submit(worker) for _ in range(threads)]
            finished, _ = wait(futures, return_when=FIRST_EXCEPTION)
            stop.set()
            for future in finished:
                future.result()
            wait(futures)
            os.fdatasync(target)
        except BaseException:
            stop.set()
            pool.shutdown(wait=True)
            raise
        finally:
            os.close(target)
    if progress:
        progress(len(shard.header))


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
    out = buffers[2].view(tensor.dtype, piece.count)
    if only is not None:
        if only.dtype == tensor.dtype:
            return _read_bytes(files, only, piece, buffers[0])
        out.copy_(read_piece(files, only, piece.first, piece.count, buffers[0]))
    else:
        i, t = (read_piece(files, s, piece.first, piece.count, b) for s, b in zip(source[1:3], buffers, strict=False))
        interpolate(i, t, tensor.lam, out, block=COMPUTE_BLOCK)
    return buffers[2].bytes[: piece.count * ITEM_BYTES[tensor.dtype]]


def _read_bytes(files: Files, info: TensorInfo, piece: Piece, buffer: Buffer) -> memoryview:
    item = info.nbytes // info.numel
    data = buffer.bytes[: piece.count * item]
    files.read(info.file, info.start + piece.first * item, data)
    return data


def _pwrite(descriptor: int, data: memoryview, offset: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(descriptor, data[done:], offset + done)


def _read_journal(partial: Path, plan: MergePlan) -> list[str]:
    """Shards that an earlier run of the same plan has finished; anything of another plan is removed first."""
    journal = partial / _JOURNAL
    try:
        saved = json.loads(journal.read_text())
    except (OSError, ValueError):
        saved = {}
    if saved.get("digest") == plan.digest:
        return [file for file in saved["done"] if (partial / file).is_file()]
    for path in partial.iterdir():
        if path.name != _LOCK:
            path.unlink()
    return []


@contextmanager
def _locked(partial: Path, out: Path) -> Iterator[None]:
    with (partial / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MullError(f"another merge is writing to {out}", "wait for it, or choose another folder") from None
        yield


def _swap_in(partial: Path, out: Path) -> None:
    """Put the finished folder in its place; an old one is moved aside first and removed last."""
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    partial.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _check_unchanged(plan: MergePlan) -> None:
    before = {(key, n): f for key in ("instruct", "thinking") for n, f in plan.described[key]["files"].items()}
    now = plan.describe()
    for (key, name), stat in before.items():
        if now[key]["files"][name] != stat:
            raise MullError(
                f"{name} of the {key} side changed while it was read",
                "make sure that nothing writes to it, then run again",
            )


def _manifest(plan: MergePlan, *, hash_inputs: bool) -> dict[str, object]:
    described = {**plan.described}
    for key, side in (("instruct", plan.pair.instruct), ("thinking", plan.pair.thinking)):
        described[key] = {"name": side.name, "files": _fingerprints(side, hash_inputs)}
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
