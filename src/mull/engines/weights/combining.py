"""Any λ or merge method on live weights: the same operations as a merge on files, tensor by tensor in memory."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
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
    sources = [_source(parameter.name, parameter.ends, recipe) for parameter in parameters]
    with _pool(_workers(parameters)) as pool:
        mixing = _Mixing.of(sources, recipe, device, pool)
        list(pool.map(lambda each, source: mixing.make(source, each.live, each.rounded), parameters, sources))


class Ends(NamedTuple):
    """One parameter in all checkpoints; only rows that all of them have."""

    name: str
    ends: dict[str, Tensor]
    """By role."""
    rounded: torch.dtype
    """The dtype of the merged checkpoint."""


def merged(parameters: Sequence[Ends], recipe: Recipe) -> Iterator[tuple[str, Tensor]]:
    """The tensors of the checkpoint that `mull merge` would write, in order, on the CPU, each made when it is taken.

    Raises `MullError` as `combine`.
    """
    sources = [_source(parameter.name, parameter.ends, recipe) for parameter in parameters]
    workers = min(os.cpu_count() or 1, MOST_WORKERS)

    def make(parameter: Ends, source: InMemory) -> Tensor:
        out = torch.empty(source.shape, dtype=parameter.rounded)
        mixing.make(source, out, parameter.rounded)
        return out

    with _pool(workers) as pool:
        mixing = _Mixing.of(sources, recipe, torch.device("cpu"), pool)
        ahead: deque[tuple[str, Future[Tensor]]] = deque()
        for parameter, source in zip(parameters, sources, strict=True):
            ahead.append((parameter.name, pool.submit(make, parameter, source)))
            if len(ahead) > workers:
                name, tensor = ahead.popleft()
                yield name, tensor.result()
        for name, tensor in ahead:
            yield name, tensor.result()


@contextmanager
def _pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that compute with one thread of torch each; torch's own number is restored at the end."""
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)


def _source(name: str, ends: Mapping[str, Tensor], recipe: Recipe) -> InMemory:
    for role in (*recipe.models, *([recipe.base] if recipe.base else [])):
        if role not in ends:
            raise MullError(f"no checkpoint is called {role!r}", nearest(role, ends))
    return InMemory(name, [ends[role] for role in recipe.models], ends[recipe.base] if recipe.base else None)


class _Mixing(NamedTuple):
    """A recipe with all that it must know of the whole model."""

    recipe: Recipe
    coefficients: Mapping[str, float]
    survey: Any
    device: torch.device

    @classmethod
    def of(cls, sources: Sequence[Source], recipe: Recipe, device: torch.device, pool: ThreadPoolExecutor) -> _Mixing:
        coefficients = recipe.coefficients.resolve([source.name for source in sources])

        def each(function: Callable[[Source], Any], some: Iterable[Source]) -> list[Any]:
            return list(pool.map(lambda source: function(_moved(source, device)), some))

        mixed = [s for s in sources if recipe.method.copied_model(coefficients[s.name]) is None]
        return cls(recipe, coefficients, recipe.method.survey(list(mixed), each) if mixed else None, device)

    @torch.no_grad()
    def make(self, source: Source, live: Tensor, rounded: torch.dtype) -> None:
        """Write the tensor, rounded to `rounded`, into `live`."""
        moved, method = _moved(source, self.device), self.recipe.method
        coefficient = self.coefficients[source.name]
        copied = method.copied_model(coefficient)
        if copied is not None:
            live.copy_(moved.models[copied].to(rounded))
            return
        operation = method.operation(moved, coefficient, method.measure(moved, self.survey))
        direct = live.dtype == rounded and live.device == self.device
        out = live if direct else torch.empty(moved.shape, dtype=rounded, device=self.device)
        base = None if moved.base is None else moved.base.view(-1)
        operation.apply([model.view(-1) for model in moved.models], base, out.view(-1), 0)
        if not direct:
            live.copy_(out)


def computing_device(device: torch.device) -> torch.device:
    """Where weights for `device` are mixed: there, or on CPU if it lacks float64."""
    return torch.device("cpu") if device.type in WITHOUT_FLOAT64 else device


def _moved(source: Source, device: torch.device) -> InMemory:
    """`source` with its tensors on `device`; without a copy if they are there."""
    assert isinstance(source, InMemory)
    base = None if source.base is None else source.base.to(device)
    return InMemory(source.name, [model.to(device) for model in source.models], base)
