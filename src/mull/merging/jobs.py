"""One result of a merge run, and what is settled before its first byte is written: what is done to each tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mull.checkpoints.blocks import Files
from mull.checkpoints.headers import TensorInfo
from mull.checkpoints.pair import AlignedTensor
from mull.merging.operations import Operation
from mull.merging.plan import MergePlan, OutputTensor
from mull.merging.reading import InFiles
from mull.merging.source import Source


class Job(NamedTuple):
    """One result of a run: its plan, the hidden folder it grows in, what is done to each tensor, the shards done."""

    plan: MergePlan
    partial: Path
    operations: dict[str, Operation]
    done: list[str]


def work(plans: list[MergePlan]) -> int:
    """What `progress` adds up to: bytes to write, and once more the bytes that are measured first."""
    return sum(plan.nbytes for plan in plans) + sum(tensor.nbytes for plan in plans for tensor in _measured(plan))


def _measured(plan: MergePlan) -> list[OutputTensor]:
    if not plan.method.measures:
        return []
    return [tensor for shard in plan.shards for tensor in shard.tensors if plan.copies(tensor) is None]


def prepare_all(job: Job, threads: int, tell: Callable[[int], None]) -> None:
    """Let the method measure what it needs of each tensor, of several at a time."""
    plan = job.plan
    mixed = [t for shard in plan.shards for t in shard.tensors if plan.copies(t) is None]
    measured = {tensor.source.name: tensor for tensor in _measured(plan)}
    with Files() as files, ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for tensor in mixed:
            for info in inputs_of(tensor.source):
                files.open(info.file)

        def each(function: Callable[[Source], Any], sources: Iterable[Source]) -> list[Any]:
            return list(pool.map(function, sources))

        def prepare(source: InFiles) -> Operation:
            operation = plan.method.prepare(source, coefficients[source.name], survey)
            if source.name in measured:
                tell(measured[source.name].nbytes)
            return operation

        coefficients = {tensor.source.name: tensor.coefficient for tensor in mixed}
        sources = [InFiles(tensor.source, files) for tensor in mixed]
        try:
            survey = plan.method.survey(list(sources), each) if sources else None
            largest_first = sorted(sources, key=lambda source: -source.count)
            prepared = list(pool.map(prepare, largest_first))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        job.operations.update(zip((source.name for source in largest_first), prepared, strict=True))


def inputs_of(source: AlignedTensor) -> list[TensorInfo]:
    return [*source.models, *([source.base] if source.base else [])]
