"""A tensor of a merge as a method sees it: in the models' files, block by block."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mull.checkpoints.blocks import Buffer, Files
from mull.checkpoints.headers import ITEM_BYTES, TensorInfo
from mull.checkpoints.pair import AlignedTensor
from mull.merging.arithmetic.source import BLOCK


class _Buffers(threading.local):
    """One buffer per model and thread, grown when needed."""

    def __init__(self) -> None:
        self.held: list[Buffer] = []

    def get(self, number: int) -> list[Buffer]:
        while len(self.held) < number:
            self.held.append(Buffer(BLOCK * 8))
        return self.held[:number]


_buffers = _Buffers()


@dataclass(frozen=True)
class InFiles:
    """The common elements of an aligned tensor. `files` must have the models' files open."""

    tensor: AlignedTensor
    files: Files
    together = 1 << 7  # so few that many rows of a matrix are sampled

    @property
    def name(self) -> str:
        return self.tensor.name

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensor.donor.shape

    @property
    def number(self) -> int:
        return len(self.tensor.models)

    @property
    def count(self) -> int:
        return self.tensor.shared

    def blocks(self) -> Iterator[tuple[list[Tensor], Tensor | None]]:
        buffers = _buffers.get(len(self._infos))
        for first in range(0, self.count, BLOCK):
            length = min(BLOCK, self.count - first)
            yield self._apart(
                self.files.elements(info, first, length, buffer)
                for info, buffer in zip(self._infos, buffers, strict=True)
            )

    def runs(self, starts: NDArray[np.int64], length: int) -> tuple[list[Tensor], Tensor | None]:
        many = len(starts) * length
        buffers = _buffers.get(len(self._infos))
        for info, buffer in zip(self._infos, buffers, strict=True):
            self.files.read_runs(info, starts, length, buffer.bytes[: many * ITEM_BYTES[info.dtype]])
        return self._apart(buffer.view(info.dtype, many) for info, buffer in zip(self._infos, buffers, strict=True))

    @property
    def _infos(self) -> list[TensorInfo]:
        return [*self.tensor.models, *([self.tensor.base] if self.tensor.base else [])]

    def _apart(self, values: Iterable[Tensor]) -> tuple[list[Tensor], Tensor | None]:
        """(models, base)"""
        read = list(values)
        return (read[:-1], read[-1]) if self.tensor.base else (read, None)
