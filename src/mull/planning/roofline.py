"""Lower bounds of time by the roofline (Williams et al. 2009): the largest of what memory, arithmetic and links take.

Real engines are slower. `assumptions` says what is assumed beyond data sheets; it is shown with every figure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from mull.planning.architecture import Architecture
from mull.planning.hardware import Cluster, Gpu

USABLE = 0.9
"""Share of a GPU's memory that an engine takes."""
WORKSPACE = 2e9
"""Bytes of it that are neither weights nor cache: activations, graphs, buffers."""
MOST_ROWS = 256
"""Responses that an engine has under way at once."""
EFFICIENCY = 0.5
"""Share of the bound's speed that is planned with unless another is given."""


def assumptions(efficiency: float) -> list[str]:
    """What the figures rest on, in sentences."""
    return [
        "times are lower bounds (roofline): the largest of bytes read / bandwidth, operations / peak, and bytes sent / "
        "link, from data sheets; kernel launches, scheduling, drawing of tokens and speculative decoding are left out",
        f"planned = the bound at {efficiency:.0%} of its speed (--efficiency): an assumption, not a measurement",
        f"memory: {USABLE:.0%} of the data sheet's, of which {WORKSPACE / 1e9:g} GB are workspace; keys and values in "
        f"16 bits; at most {MOST_ROWS} responses at once in one replica",
        "weights divide evenly over GPUs; experts are chosen by lot; only samples of one question share a prompt",
    ]


class Split(NamedTuple):
    """How one replica of a model lies on GPUs."""

    tensor: int = 1
    """GPUs that share every matrix; of one node."""
    pipeline: int = 1
    """Stages of whole layers, which may lie on several nodes."""

    @property
    def gpus(self) -> int:
        """Of one replica."""
        return self.tensor * self.pipeline

    def __str__(self) -> str:
        return f"TP {self.tensor}" + (f" PP {self.pipeline}" if self.pipeline > 1 else "")


def splits(model: Architecture, cluster: Cluster) -> Iterator[tuple[Split, int]]:
    """The splits that a cluster has room for, with the number of replicas of each.

    Tensor parallelism within a node comes first: stages are made only of as many GPUs as it can use, or where it
    leaves some of a node over.
    """
    tensors = [1 << i for i in range(cluster.per_node.bit_length()) if model.heads % (1 << i) == 0]
    for tensor in tensors:
        stages = (cluster.per_node // tensor) * cluster.nodes
        deep = tensor == tensors[-1] or cluster.per_node % tensors[-1]
        most = min(stages, model.layers) if deep else 1
        yield from ((Split(tensor, n), stages // n) for n in range(1, most + 1))


class Load(NamedTuple):
    """What is held and read for a batch."""

    copies: int = 1
    """Models in the memory of the GPUs."""
    reads: int = 1
    """Models that a step reads and multiplies with: two where every row mixes both ends."""
    beside: float = 0.0
    """Further bytes that are held and read, as adapters."""


def room(model: Architecture, gpu: Gpu, split: Split, load: Load) -> float:
    """Bytes for keys and values on each GPU; below 0 if the weights do not fit."""
    weights = (load.copies * model.weight_bytes() + load.beside) / split.gpus
    return USABLE * gpu.memory - WORKSPACE - weights


def rows_that_fit(model: Architecture, gpu: Gpu, split: Split, load: Load, tokens: int) -> int:
    """Responses of `tokens` tokens, prompt included, that are in memory at once."""
    each = model.kv_bytes(tokens) / (model.kv_parts(split.tensor) * split.pipeline)
    return max(0, min(MOST_ROWS, int(room(model, gpu, split, load) // each)))


def step_seconds(model: Architecture, gpu: Gpu, split: Split, load: Load, rows: float, context: float) -> float:
    """The least time in which each of `rows` responses gets one token more, `context` tokens being before it.

    With pipeline stages the rows go through in as many groups as there are stages, so that all stages work.
    """
    group = max(1.0, rows / split.pipeline)
    weights = (load.reads * model.weight_bytes(rows=group) + load.beside) / split.tensor
    cached = group * model.kv_bytes(context) / model.kv_parts(split.tensor)
    reading = (weights + cached) / gpu.bandwidth
    computing = group * _operations(model, load, context) / (split.tensor * _peak(model, gpu))
    return max(reading, computing, _sending(model, gpu, split, group))


def prefill_seconds(model: Architecture, gpu: Gpu, split: Split, load: Load, tokens: int) -> float:
    """The least time of a replica for the prompt of one response, many of them under way."""
    computing = tokens * _operations(model, load, tokens / 2, prefill=True) / (split.gpus * _peak(model, gpu))
    return max(computing, _sending(model, gpu, split, tokens) / split.pipeline)


def switch_seconds(model: Architecture, gpu: Gpu, split: Split, ends_on_gpu: bool) -> float:
    """The least time to mix the weights at another λ: both ends are read and the mixture is written.

    Ends in CPU memory come over the bus of each GPU while the mixture is written, so the slower of both counts.
    """
    weights = model.weight_bytes() / split.gpus
    if ends_on_gpu:
        return 3 * weights / gpu.bandwidth
    return max(2 * weights / gpu.bus, 3 * weights / gpu.bandwidth)


def _operations(model: Architecture, load: Load, context: float, *, prefill: bool = False) -> float:
    """For one token. Both ends of a row are multiplied, attention is computed once."""
    once = model.flops(0, prefill=prefill)
    return load.reads * once + model.flops(context, prefill=prefill) - once


def _peak(model: Architecture, gpu: Gpu) -> float:
    return gpu.fp8 if model.precision == "fp8" else gpu.bf16


def _sending(model: Architecture, gpu: Gpu, split: Split, tokens: float) -> float:
    """Two sums over the GPUs of a tensor-parallel group in every layer, each as a ring sends it, 16-bit."""
    share = 2 * (split.tensor - 1) / split.tensor
    return 2 * model.layers * tokens * model.hidden * 2 * share / gpu.link
