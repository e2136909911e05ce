"""Any merge method on live weights: the same operations as a merge on files, tensor by tensor in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mull.errors import MullError, nearest
from mull.merging.arithmetic.source import InMemory, Source
from mull.merging.coefficients.recipe import Recipe


class Slot(NamedTuple):
    """One live parameter (its rows that all checkpoints have) with what it is made of."""

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


def combine(slots: list[Slot], recipe: Recipe, workers: int) -> None:
    """Write what `recipe` makes of the checkpoints into the live parameters, on so many threads.

    Raises `MullError` where a role is not held, or a coefficient names no parameter.
    """
    for role in (*recipe.models, *([recipe.base] if recipe.base else [])):
        if role not in slots[0].ends:
            raise MullError(f"no checkpoint is called {role!r}", nearest(role, slots[0].ends))
    coefficients = recipe.coefficients.resolve([slot.name for slot in slots])
    sources = [
        InMemory(
            slot.name, [slot.ends[role] for role in recipe.models], slot.ends[recipe.base] if recipe.base else None
        )
        for slot in slots
    ]
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:

            def each(function: Callable[[Source], Any], some: Iterable[Source]) -> list[Any]:
                return list(pool.map(function, some))

            mixed = [s for s in sources if recipe.method.copies(coefficients[s.name]) is None]
            survey = recipe.method.survey(list(mixed), each) if mixed else None

            def make(slot: Slot, source: InMemory) -> None:
                _make(slot, source, recipe, coefficients[slot.name], survey)

            list(pool.map(make, slots, sources))
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def _make(slot: Slot, source: InMemory, recipe: Recipe, coefficient: float, survey: Any) -> None:
    copied = recipe.method.copies(coefficient)
    if copied is not None:
        slot.live.copy_(source.models[copied].to(slot.rounded))
        return
    operation = recipe.method.operation(source, coefficient, recipe.method.measure(source, survey))
    direct = slot.live.dtype == slot.rounded
    out = slot.live if direct else torch.empty(source.shape, dtype=slot.rounded, device=slot.live.device)
    base = None if source.base is None else source.base.view(-1)
    operation.into([model.view(-1) for model in source.models], base, out.view(-1), 0)
    if not direct:
        slot.live.copy_(out)
