"""`InFiles`: a `Source` that reads a tensor from the models' files, block by block."""

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

    def get(self, count: int) -> list[Buffer]:
        while len(self.held) < count:
            self.held.append(Buffer(BLOCK * 8))
        return self.held[:count]


_buffers = _Buffers()


@dataclass(frozen=True)
class InFiles:
    """The elements of an aligned tensor that all models have. The models' files must be open in `files`."""

    tensor: AlignedTensor
    files: Files
    run_length = 1 << 7  # short, so that a sample covers many rows of a matrix

    @property
    def name(self) -> str:
        return self.tensor.name

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensor.donor.shape

    @property
    def model_count(self) -> int:
        return len(self.tensor.models)

    @property
    def numel(self) -> int:
        return self.tensor.shared

    def blocks(self) -> Iterator[tuple[list[Tensor], Tensor | None]]:
        buffers = _buffers.get(len(self._infos))
        for first in range(0, self.numel, BLOCK):
            length = min(BLOCK, self.numel - first)
            yield self._split(
                self.files.elements(info, first, length, buffer)
                for info, buffer in zip(self._infos, buffers, strict=True)
            )

    def runs(self, starts: NDArray[np.int64], length: int) -> tuple[list[Tensor], Tensor | None]:
        count = len(starts) * length
        buffers = _buffers.get(len(self._infos))
        for info, buffer in zip(self._infos, buffers, strict=True):
            self.files.read_runs(info, starts, length, buffer.bytes[: count * ITEM_BYTES[info.dtype]])
        return self._split(buffer.view(info.dtype, count) for info, buffer in zip(self._infos, buffers, strict=True))

    @property
    def _infos(self) -> list[TensorInfo]:
        return [*self.tensor.models, *([self.tensor.base] if self.tensor.base else [])]

    def _split(self, values: Iterable[Tensor]) -> tuple[list[Tensor], Tensor | None]:
        """(models, base) from the tensors in the order of `_infos`."""
        read = list(values)
        return (read[:-1], read[-1]) if self.tensor.base else (read, None)
