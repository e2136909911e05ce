"""Executes a merge plan: reads the inputs piece by piece into reused buffers and writes preallocated shards.

Memory does not grow with the model. A killed merge leaves a hidden folder beside the output, with a list of finished
shards (output.py). The same command continues from there. The output folder only appears when it is complete.
"""

from __future__ import annotations

import errno
import json
import logging
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from threading import Lock
from typing import Any

import torch

from mull import portable
from mull.checkpoints.checkpoint import INDEX
from mull.errors import MullError
from mull.folders import locked
from mull.merging.arithmetic import compiled
from mull.merging.arithmetic.source import NotFinite
from mull.merging.streaming import devices, output
from mull.merging.streaming.jobs import Job, prepare_all
from mull.merging.streaming.manifest import check_hashes, content_hashes, shared_manifest
from mull.merging.streaming.plan import MergePlan, OutputShard
from mull.merging.streaming.shards import write_shard
from mull.merging.streaming.verify import verify
from mull.words import format_bytes

log = logging.getLogger(__name__)


def merge(plan: MergePlan, out: Path, *, extra_files: dict[str, str] | None = None, **options: Any) -> Path:
    """Write the model of `plan` to the folder `out` and return it; see `merge_all`."""
    return merge_all([plan], [out], extra_files=[extra_files or {}], **options)[0]


def merge_all(
    plans: list[MergePlan],
    outs: list[Path],
    *,
    overwrite: bool = False,
    threads: int = 2,
    device: str = "cpu",
    hash_inputs: bool = False,
    extra_files: list[dict[str, str]] | None = None,
    progress: Callable[[int], object] | None = None,
) -> list[Path]:
    """Write each plan's model to its folder. Every input byte is read once for all plans.

    The plans may differ only in their coefficients. A method that measures tensors first reads them once more for that.

    `progress` is called with the bytes done since the last call, by one thread at a time; `total_progress` is the sum.
    Shards that an earlier, killed run finished count too. `extra_files` (name → text, for each plan) are written beside
    the weights. A CUDA `device` ("cuda", "cuda:1") gives the same bytes; measuring and sums over rows stay on the CPU.
    `hash_inputs` writes the SHA-256 of every input file into mull.json and checks that it is the same at the end,
    which means reading the files twice more.

    Raises:
        MullError: an output exists (without `overwrite`), the disk is full, an input cannot be read or changed
            meanwhile, another merge is writing to an output, or the self-check found a wrong element.
        NotFinite: an input or a result holds NaN or infinity, and the plan does not allow it.
    """
    if threads < 1:
        raise MullError(f"a merge needs at least one thread, got {threads}")
    devices.check(device)
    plans, outs = list(plans), [Path(out) for out in outs]
    _check_alike(plans, outs)
    extras = extra_files or [{}] * len(plans)
    _check_extra(extras, len(plans))
    for out in outs:
        output.check_place(out)
    recovered = [output.recover(out, plan.digest, overwrite=overwrite) for plan, out in zip(plans, outs, strict=True)]
    finished = [output.is_finished(out, plan.digest) for plan, out in zip(plans, outs, strict=True)]
    results = outs
    if any(recovered) and all(finished):
        return results
    if any(finished) and not all(finished):  # an earlier run was killed while it renamed its results
        todo = [i for i, done in enumerate(finished) if not done]
        plans, outs, extras = [plans[i] for i in todo], [outs[i] for i in todo], [extras[i] for i in todo]
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
                locks.enter_context(locked(partial, output.busy_error(out)))
                output.check_target(out, inputs, overwrite=overwrite)  # another merge may have finished in between
            out = outs[0]
            jobs = [_resumed(plan, partial) for plan, partial in zip(plans, partials, strict=True)]
            _fill(jobs, threads, device, hash_inputs, extras, progress)
            for partial, out in zip(partials, outs, strict=True):
                output.swap_in(partial, out.resolve())
    except RuntimeError as error:
        if device == "cpu":
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MullError(f"{device} failed: {reason}", "try fewer --threads, or leave --device out") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            what = f"the disk of {out} is full: the result needs {format_bytes(sum(plan.nbytes for plan in plans))}"
            raise MullError(what, "free some space and run it again") from None
        what = f"cannot write {out}: {error.strerror}"
        raise MullError(what, "check the folder's permissions and the disk") from None
    finally:
        torch.set_num_threads(intra_op)  # torch takes the workers' setting as default for later threads
    return results


def _check_alike(plans: list[MergePlan], outs: list[Path]) -> None:
    if not plans or len(plans) != len(outs):
        raise MullError(f"{len(plans)} merges for {len(outs)} folders", "give one folder for each")
    headers = {tuple(shard.header for shard in plan.shards) for plan in plans}
    methods = {(plan.method, plan.varying) for plan in plans}
    if len({id(plan.group) for plan in plans}) > 1 or len(headers) > 1 or len(methods) > 1:
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
    device: str,
    hash_inputs: bool,
    extra_files: list[dict[str, str]],
    progress: Callable[[int], object] | None,
) -> None:
    """Write everything into the partial folders. After an error, a folder is kept only if a later run can resume it."""
    progress_lock = Lock()

    def report(nbytes: int) -> None:
        if progress:
            with progress_lock:
                progress(nbytes)

    kernels = "torch's kernels" if compiled.kernels is None else "compiled kernels"
    size = sum(job.plan.nbytes for job in jobs)
    log.debug("%s: %d bytes to write, by %d threads and %s", jobs[0].plan.method_label, size, threads, kernels)
    hashes = content_hashes(jobs[0].plan) if hash_inputs else {}
    try:
        for job in jobs:
            for shard in job.plan.shards:
                if shard.file not in job.done:
                    _reserve(job.partial / shard.file, shard)
        prepare_all(jobs, threads, report)
        for index, shard in enumerate(jobs[0].plan.shards):
            unfinished = [job for job in jobs if shard.file not in job.done]
            if unfinished:
                write_shard(unfinished, index, threads, device, report)
            for job in jobs:
                if job not in unfinished:
                    report(shard.nbytes)
            for job in unfinished:
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
            if full or not job.done or isinstance(error, NotFinite):
                shutil.rmtree(job.partial, ignore_errors=True)
        raise


def _write_small_files(plan: MergePlan, partial: Path, manifest: dict[str, object], extra: dict[str, str]) -> None:
    donor = plan.group.donor
    for path in donor.companions():
        output.copy_file(path, partial / path.relative_to(donor.folder))
    if plan.config() != donor.config:
        output.write_text(partial / "config.json", json.dumps(plan.config(), indent=2) + "\n")
    for name, text in extra.items():
        output.write_text(partial / name, text)
    if len(plan.shards) > 1:
        output.write_text(partial / INDEX, json.dumps(plan.index(), indent=2) + "\n")
    output.write_text(partial / output.MANIFEST, json.dumps(manifest, indent=2) + "\n")


def _reserve(path: Path, shard: OutputShard) -> None:
    """Allocate the shard's whole file on disk, so that a full disk shows before any work is done."""
    with path.open("r+b" if path.exists() else "w+b") as file:
        portable.reserve(file.fileno(), shard.nbytes)
