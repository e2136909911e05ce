"""Gives a method the values of one tensor in all models, block by block, so that it can measure them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from mull.errors import MullError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

BLOCK = 1 << 19
"""Elements per block. Fixed, so that a sum over blocks is the same for any number of threads."""


class NotFinite(MullError):
    """A tensor holds NaN or infinity."""

    def __init__(self, tensor: str, what: str, remedy: str = "") -> None:
        super().__init__(what, remedy)
        self.tensor = tensor


class Source(Protocol):
    """One tensor in all models."""

    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def model_count(self) -> int:
        """How many models there are."""
        ...

    @property
    def numel(self) -> int:
        """Number of elements, counting only those that all models have."""
        ...

    @property
    def run_length(self) -> int:
        """How many neighbouring elements to read as one sample: reading them costs about as much as reading one."""
        ...

    def blocks(self) -> Iterator[tuple[list[Tensor], Tensor | None]]:
        """(models, base) of each block in order; each tensor is one-dimensional, of at most `BLOCK` elements.

        Do not write to the tensors. They are valid until the next block is read, which may reuse their memory.
        """
        ...

    def runs(self, starts: NDArray[np.int64], length: int) -> tuple[list[Tensor], Tensor | None]:
        """(models, base), each `[len(starts) · length]`, at most `BLOCK`: `length` elements from each start."""
        ...


Mapper = Callable[[Callable[[Source], Any], Iterable[Source]], list[Any]]
"""Computes `list(map(function, sources))`, possibly on several threads."""


def map_serially(function: Callable[[Source], Any], sources: Iterable[Source]) -> list[Any]:
    """A `Mapper` on the calling thread."""
    return [function(source) for source in sources]


@dataclass(frozen=True)
class InMemory:
    """A source whose tensors are in memory; all have the same shape."""

    name: str
    models: list[Tensor]
    base: Tensor | None = None
    run_length = 1

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.models[0].shape)

    @property
    def model_count(self) -> int:
        return len(self.models)

    @property
    def numel(self) -> int:
        return self.models[0].numel()

    def blocks(self) -> Iterator[tuple[list[Tensor], Tensor | None]]:
        models = [model.reshape(-1) for model in self.models]
        base = None if self.base is None else self.base.reshape(-1)
        for first in range(0, self.numel, BLOCK):
            part = slice(first, first + BLOCK)
            yield [model[part] for model in models], None if base is None else base[part]

    def runs(self, starts: NDArray[np.int64], length: int) -> tuple[list[Tensor], Tensor | None]:
        import torch

        indices = torch.from_numpy(starts)[:, None] + torch.arange(length)

        def gathered(tensor: Tensor) -> Tensor:
            return tensor.reshape(-1)[indices].flatten()

        return [gathered(model) for model in self.models], None if self.base is None else gathered(self.base)


def load_if_small(source: Source) -> Source:
    """If the tensor fits in one block, load it now, so that later passes do not read it again.

    Other sources are returned unchanged. The result is valid until another block is read on this thread.
    """
    if not 0 < source.numel <= BLOCK:
        return source
    models, base = next(source.blocks())
    return InMemory(source.name, models, base)


def row_length(shape: tuple[int, ...]) -> int:
    """How many elements a row has: the last dimension of a matrix, or all elements of a vector."""
    return max(shape[-1], 1) if len(shape) > 1 else max(shape[0] if shape else 1, 1)
