"""Any λ or merge method on live weights: the same operations as a merge on files, tensor by tensor in memory."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mull.engines.memory import WITHOUT_FLOAT64
from mull.errors import MullError, nearest
from mull.merging.arithmetic.interpolation import interpolate
from mull.merging.arithmetic.source import InMemory, Source
from mull.merging.coefficients.recipe import Recipe

PIECE = 1 << 22
"""How many elements of a parameter one thread takes at a time."""
DEVICE_BLOCK = 1 << 24
"""How many elements to compute at a time on other devices than the CPU, where each operation is a kernel launch."""
CPU_BLOCK = 1 << 18
"""The same for torch's operations on CPU, where a block should stay in the cache but be worth its six operations."""
MOST_WORKERS = 8
"""The largest number of threads that set weights: memory speed is the limit."""
WORTH_WORKERS = 1 << 22
"""Several threads are used from this number of elements on."""


class LiveParameter(NamedTuple):
    """One live parameter with the checkpoints' parameters that it is computed from; only rows that all of them have."""

    name: str
    live: Tensor
    ends: dict[str, Tensor]
    """The checkpoints' parameters by role."""
    rounded: torch.dtype
    """The dtype that merged weights are rounded to, before they are cast to that of the live model."""

    @property
    def instruct(self) -> Tensor:
        return self.ends["instruct"]

    @property
    def thinking(self) -> Tensor:
        return self.ends["thinking"]


def interpolate_each(parameters: Sequence[LiveParameter], lams: Mapping[str, float]) -> None:
    """Write λ·Thinking + (1−λ)·Instruct into the live parameters, each with the λ of its name.

    Each element is rounded to `LiveParameter.rounded` as `mull merge` rounds it, and then cast.
    """
    device = computing_device(parameters[0].live.device)
    size = PIECE if device.type == "cpu" else DEVICE_BLOCK
    pieces = ((parameter, first) for parameter in parameters for first in range(0, parameter.live.numel(), size))
    workers = _workers(parameters)
    if device.type != "cpu":
        _interpolate(pieces, lams, device, size)
        return
    threads = torch.get_num_threads()
    try:  # pieces are the parallelism: torch's own threads would split blocks at places that can show in the bits
        if workers == 1:
            torch.set_num_threads(1)
            _interpolate(pieces, lams, device, size)
            return
        taking = threading.Lock()
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            shares = [pool.submit(_interpolate, _shared(pieces, taking), lams, device, size) for _ in range(workers)]
            for share in shares:
                share.result()
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def _interpolate(
    pieces: Iterator[tuple[LiveParameter, int]], lams: Mapping[str, float], device: torch.device, size: int
) -> None:
    block = CPU_BLOCK if device.type == "cpu" else DEVICE_BLOCK
    for parameter, first in pieces:
        piece = slice(first, first + size)
        live = parameter.live.view(-1)[piece]
        out = live if _is_on(live, device) else torch.empty_like(live, device=device)
        i, t = (end.view(-1)[piece].to(device) for end in (parameter.instruct, parameter.thinking))
        interpolate(i, t, lams[parameter.name], out, rounded=parameter.rounded, block=block)
        if out is not live:
            live.copy_(out)


def _is_on(tensor: Tensor, device: torch.device) -> bool:
    return tensor.device == device


def _shared(pieces: Iterator[tuple[LiveParameter, int]], taking: threading.Lock) -> Iterator[tuple[LiveParameter, int]]:
    """The pieces that no other thread has taken yet."""
    while True:
        with taking:
            piece = next(pieces, None)
        if piece is None:
            return
        yield piece


def _workers(parameters: Sequence[LiveParameter]) -> int:
    """How many threads set the weights."""
    elements = sum(parameter.live.numel() for parameter in parameters)
    on_cpu = computing_device(parameters[0].live.device).type == "cpu"
    return min(os.cpu_count() or 1, MOST_WORKERS) if on_cpu and elements > WORTH_WORKERS else 1


def combine(parameters: Sequence[LiveParameter], recipe: Recipe) -> None:
    """Write what `recipe` makes of the checkpoints into the live parameters.

    It is computed where the live parameters are, or on CPU where that device has no float64 (`computing_device`).
    Raises `MullError` where a role is not held, or a coefficient names no parameter.
    """
    device = computing_device(parameters[0].live.device)
    for role in (*recipe.models, *([recipe.base] if recipe.base else [])):
        if role not in parameters[0].ends:
            raise MullError(f"no checkpoint is called {role!r}", nearest(role, parameters[0].ends))
    coefficients = recipe.coefficients.resolve([parameter.name for parameter in parameters])
    sources = [
        InMemory(
            parameter.name,
            [parameter.ends[role] for role in recipe.models],
            parameter.ends[recipe.base] if recipe.base else None,
        )
        for parameter in parameters
    ]
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(_workers(parameters), initializer=torch.set_num_threads, initargs=(1,)) as pool:

            def each(function: Callable[[Source], Any], some: Iterable[Source]) -> list[Any]:
                return list(pool.map(lambda source: function(_moved(source, device)), some))

            mixed = [s for s in sources if recipe.method.copied_model(coefficients[s.name]) is None]
            survey = recipe.method.survey(list(mixed), each) if mixed else None

            def make(parameter: LiveParameter, source: InMemory) -> None:
                _make(parameter, _moved(source, device), recipe, coefficients[parameter.name], survey)

            list(pool.map(make, parameters, sources))
    finally:
        torch.set_num_threads(threads)


def computing_device(device: torch.device) -> torch.device:
    """Where weights for `device` are mixed: there, or on CPU if it lacks float64."""
    return torch.device("cpu") if device.type in WITHOUT_FLOAT64 else device


def _moved(source: Source, device: torch.device) -> InMemory:
    """`source` with its tensors on `device`; without a copy if they are there."""
    assert isinstance(source, InMemory)
    base = None if source.base is None else source.base.to(device)
    return InMemory(source.name, [model.to(device) for model in source.models], base)


@torch.no_grad()
def _make(parameter: LiveParameter, source: InMemory, recipe: Recipe, coefficient: float, survey: Any) -> None:
    copied = recipe.method.copied_model(coefficient)
    if copied is not None:
        parameter.live.copy_(source.models[copied].to(parameter.rounded))
        return
    operation = recipe.method.operation(source, coefficient, recipe.method.measure(source, survey))
    device = source.models[0].device
    direct = parameter.live.dtype == parameter.rounded and parameter.live.device == device
    out = parameter.live if direct else torch.empty(source.shape, dtype=parameter.rounded, device=device)
    base = None if source.base is None else source.base.view(-1)
    operation.apply([model.view(-1) for model in source.models], base, out.view(-1), 0)
    if not direct:
        parameter.live.copy_(out)
