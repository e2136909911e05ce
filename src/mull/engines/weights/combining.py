"""Any merge method on live weights: the same operations as a merge on files, tensor by tensor in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mull.engines.memory import WITHOUT_FLOAT64
from mull.errors import MullError, nearest
from mull.merging.arithmetic.source import InMemory, Source
from mull.merging.coefficients.recipe import Recipe


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


def combine(parameters: list[LiveParameter], recipe: Recipe, workers: int) -> None:
    """Write what `recipe` makes of the checkpoints into the live parameters, on `workers` threads.

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
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:

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
