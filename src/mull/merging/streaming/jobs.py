"""`Job`: one result of a merge run. Before anything is written, the method chooses the operation for each tensor."""

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
from mull.merging.arithmetic.source import NotFinite, Source
from mull.merging.streaming.finite import input_error
from mull.merging.streaming.plan import MergePlan, OutputTensor
from mull.merging.streaming.reading import InFiles


class Job(NamedTuple):
    """One result of a merge run."""

    plan: MergePlan
    partial: Path
    """The hidden folder in which the result is written until it is complete."""
    operations: dict[str, Operation]
    """By tensor name, for the tensors that are computed, not copied."""
    done: list[str]
    """File names of the finished shards."""


def total_progress(plans: list[MergePlan]) -> int:
    """Sum of what `progress` will be told: bytes to write, plus bytes of the tensors that are measured first."""
    measured = _computed(plans) if plans[0].method.measures else {}
    return sum(plan.nbytes for plan in plans) + sum(tensor.nbytes for tensor in measured.values())


def _computed(plans: list[MergePlan]) -> dict[str, OutputTensor]:
    """The tensors, by name, that at least one result does not just copy."""
    tensors = ((plan, tensor) for plan in plans for shard in plan.shards for tensor in shard.tensors)
    return {tensor.source.name: tensor for plan, tensor in tensors if plan.copied_tensor(tensor) is None}


def prepare_all(jobs: list[Job], threads: int, report: Callable[[int], None]) -> None:
    """Fill in the operations of all jobs. Tensors are measured in parallel, each once for all results."""
    plan, computed = jobs[0].plan, _computed([job.plan for job in jobs])
    try:
        measured = _measure(plan, computed, threads, report)
    except NotFinite as error:  # say in which model, too
        named = [computed[error.tensor]] if error.tensor in computed else computed.values()
        found = next(filter(None, (input_error(plan.group, tensor.source) for tensor in named)), None)
        raise (
            error if found is None or plan.allow_non_finite else NotFinite(error.tensor, found.what, found.remedy)
        ) from None
    for job in jobs:
        for shard in job.plan.shards:
            for tensor in shard.tensors:
                if job.plan.copied_tensor(tensor) is None:
                    source, found = measured[tensor.source.name]
                    method = plan.methods[source.name]
                    job.operations[source.name] = method.operation(source, tensor.coefficient, found)


def _measure(
    plan: MergePlan, tensors: dict[str, OutputTensor], threads: int, report: Callable[[int], None]
) -> dict[str, tuple[InFiles, Any]]:
    """By tensor name: the source and what the method measured on it."""
    with Files() as files, ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        sources = [InFiles(tensor.source, files) for tensor in tensors.values()]
        if not plan.method.measures:
            return {source.name: (source, None) for source in sources}
        for source in sources:
            for info in inputs_of(source.tensor):
                files.open(info.file)

        def mapper(function: Callable[[Source], Any], sources: Iterable[Source]) -> list[Any]:
            return list(pool.map(function, sources))

        def measure(source: InFiles) -> Any:
            found = plan.methods[source.name].measure(source, survey)
            files.check({info.file for info in inputs_of(source.tensor)})
            report(tensors[source.name].nbytes)
            return found

        try:
            survey = plan.method.survey(list(sources), mapper)
            largest_first = sorted(sources, key=lambda source: -source.numel)
            found = list(pool.map(measure, largest_first))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return {source.name: (source, value) for source, value in zip(largest_first, found, strict=True)}


def inputs_of(source: AlignedTensor) -> list[TensorInfo]:
    """The tensor in all models, then in the base if there is one."""
    return [*source.models, *([source.base] if source.base else [])]
