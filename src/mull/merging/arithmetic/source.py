"""What a method may look at before it decides what to do with a tensor: its values in all models, block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

BLOCK = 1 << 19
"""Elements of a block. Fixed, so that sums over blocks do not depend on how the tensor is otherwise cut."""


class Source(Protocol):
    """One tensor in all models."""

    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def number(self) -> int:
        """How many models there are."""
        ...

    @property
    def count(self) -> int:
        """Elements that all models have."""
        ...

    @property
    def together(self) -> int:
        """Neighbours that are read at about the cost of one."""
        ...

    def blocks(self) -> Iterator[tuple[list[Tensor], Tensor | None]]:
        """Each block's (models, base), `[≤ BLOCK]` each, in order.

        They must not be written to, and the next block may lie in their place.
        """
        ...

    def runs(self, starts: NDArray[np.int64], length: int) -> tuple[list[Tensor], Tensor | None]:
        """(models, base) of `length` elements from each start on, run after run; `BLOCK` elements at most."""
        ...


Each = Callable[[Callable[[Source], Any], Iterable[Source]], list[Any]]
"""`list(map(function, sources))`, perhaps on several threads."""


def in_turn(function: Callable[[Source], Any], sources: Iterable[Source]) -> list[Any]:
    """An `Each` on one thread."""
    return [function(source) for source in sources]


@dataclass(frozen=True)
class InMemory:
    """Tensors of one shape."""

    name: str
    models: list[Tensor]
    base: Tensor | None = None
    together = 1

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.models[0].shape)

    @property
    def number(self) -> int:
        return len(self.models)

    @property
    def count(self) -> int:
        return self.models[0].numel()

    def blocks(self) -> Iterator[tuple[list[Tensor], Tensor | None]]:
        models = [model.reshape(-1) for model in self.models]
        base = None if self.base is None else self.base.reshape(-1)
        for first in range(0, self.count, BLOCK):
            part = slice(first, first + BLOCK)
            yield [model[part] for model in models], None if base is None else base[part]

    def runs(self, starts: NDArray[np.int64], length: int) -> tuple[list[Tensor], Tensor | None]:
        import torch

        places = torch.from_numpy(starts)[:, None] + torch.arange(length)

        def joined(tensor: Tensor) -> Tensor:
            return tensor.reshape(-1)[places].flatten()

        return [joined(model) for model in self.models], None if self.base is None else joined(self.base)


def at_hand(source: Source) -> Source:
    """A source of one block as that block, read once for all that is asked of it; any other as it is.

    It lasts as long as no other block is read on this thread.
    """
    if not 0 < source.count <= BLOCK:
        return source
    models, base = next(source.blocks())
    return InMemory(source.name, models, base)


def row_length(shape: tuple[int, ...]) -> int:
    """Elements of a row: the last dimension of a matrix, all of a vector."""
    return max(shape[-1], 1) if len(shape) > 1 else max(shape[0] if shape else 1, 1)
