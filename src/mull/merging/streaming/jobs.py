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
from mull.merging.arithmetic.operations import Operation
from mull.merging.arithmetic.source import Source
from mull.merging.methods import Method
from mull.merging.streaming.plan import MergePlan, OutputTensor
from mull.merging.streaming.reading import InFiles


class Job(NamedTuple):
    """One result of a run: its plan, the hidden folder it grows in, what is done to each tensor, the shards done."""

    plan: MergePlan
    partial: Path
    operations: dict[str, Operation]
    done: list[str]


def work(plans: list[MergePlan]) -> int:
    """What `progress` adds up to: bytes to write, and once more the bytes that are measured first."""
    measured = _mixed(plans) if plans[0].method.measures else {}
    return sum(plan.nbytes for plan in plans) + sum(tensor.nbytes for tensor in measured.values())


def _mixed(plans: list[MergePlan]) -> dict[str, OutputTensor]:
    """The tensors, by name, that are not mere copies in all results."""
    tensors = ((plan, tensor) for plan in plans for shard in plan.shards for tensor in shard.tensors)
    return {tensor.source.name: tensor for plan, tensor in tensors if plan.copies(tensor) is None}


def prepare_all(jobs: list[Job], threads: int, tell: Callable[[int], None]) -> None:
    """Let the method measure each tensor, of several at a time and once for all results; settle what is done to it."""
    method = jobs[0].plan.method
    mixed = _mixed([job.plan for job in jobs])
    measured = _measure(method, mixed, threads, tell)
    for job in jobs:
        for shard in job.plan.shards:
            for tensor in shard.tensors:
                if job.plan.copies(tensor) is None:
                    source, found = measured[tensor.source.name]
                    job.operations[source.name] = method.operation(source, tensor.coefficient, found)


def _measure(
    method: Method, mixed: dict[str, OutputTensor], threads: int, tell: Callable[[int], None]
) -> dict[str, tuple[InFiles, Any]]:
    with Files() as files, ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        sources = [InFiles(tensor.source, files) for tensor in mixed.values()]
        if not method.measures:
            return {source.name: (source, None) for source in sources}
        for source in sources:
            for info in inputs_of(source.tensor):
                files.open(info.file)

        def each(function: Callable[[Source], Any], some: Iterable[Source]) -> list[Any]:
            return list(pool.map(function, some))

        def measure(source: InFiles) -> Any:
            found = method.measure(source, survey)
            files.check({info.file for info in inputs_of(source.tensor)})
            tell(mixed[source.name].nbytes)
            return found

        try:
            survey = method.survey(list(sources), each)
            largest_first = sorted(sources, key=lambda source: -source.count)
            found = list(pool.map(measure, largest_first))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return {source.name: (source, value) for source, value in zip(largest_first, found, strict=True)}


def inputs_of(source: AlignedTensor) -> list[TensorInfo]:
    return [*source.models, *([source.base] if source.base else [])]
