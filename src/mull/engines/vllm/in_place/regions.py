"""Which part of which live parameter each tensor of a checkpoint was loaded into, as vLLM's own loaders put it there.

vLLM fuses parameters (queries, keys and values; gate and up; experts) and cuts them for tensor parallelism. The rules
differ by model; watching the loading knows them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


class Region(NamedTuple):
    """A part of a parameter that one tensor of the checkpoint fills."""

    name: str
    """Of the checkpoint's tensor."""
    offset: int
    """First element within the parameter."""
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def of(self, parameter: Tensor) -> Tensor:
        """The view of `parameter`."""
        return parameter.as_strided(self.shape, self.stride, parameter.storage_offset() + self.offset)


class Watch(TorchDispatchMode):
    """While it is entered, sees what is copied into the parameters of a model.

    Example:
        >>> with Watch(model) as watch:
        ...     model.load_weights(watch.naming(tensors))
        >>> watch.regions["model.layers.0.mlp.gate_up_proj.weight"]
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.regions: dict[str, list[Region]] = {}
        """By the parameter's name, in the order in which they were loaded."""
        self._owners = {p.untyped_storage().data_ptr(): (name, p) for name, p in model.named_parameters()}
        self._current: str | None = None

    def naming(self, tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """`tensors`, whose names are noted while they are loaded: loaders take the next one when one is done."""
        for name, tensor in tensors:
            self._current = name
            yield name, tensor
        self._current = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.copy_.default and self._current is not None:
            into: Tensor = args[0]
            owner = self._owners.get(into.untyped_storage().data_ptr())
            if owner is not None and into.numel():
                name, parameter = owner
                offset = int(into.storage_offset()) - int(parameter.storage_offset())
                region = Region(self._current, offset, tuple(into.shape), into.stride())
                self.regions.setdefault(name, []).append(region)
        return func(*args, **(kwargs or {}))
