"""A tensor of a merge as a method sees it: read from the models' files, block by block, through reused buffers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from mull.checkpoints.blocks import Buffer, Files
from mull.checkpoints.headers import ITEM_BYTES, TensorInfo
from mull.checkpoints.pair import AlignedTensor
from mull.merging.source import BLOCK


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

    def blocks(self, every: int = 1) -> Iterator[tuple[list[Tensor], Tensor | None]]:
        infos: list[TensorInfo] = [*self.tensor.models, *([self.tensor.base] if self.tensor.base else [])]
        buffers = _buffers.get(len(infos))
        read: list[Tensor] = []
        for first in range(0, self.count, BLOCK * every):
            length = min(BLOCK, self.count - first)
            for info, buffer in zip(infos, buffers, strict=True):
                item = ITEM_BYTES[info.dtype]
                self.files.read(info.file, info.start + first * item, buffer.bytes[: length * item])
            if not read or read[0].numel() != length:
                read = [buffer.view(info.dtype, length) for info, buffer in zip(infos, buffers, strict=True)]
            yield (read[:-1], read[-1]) if self.tensor.base else (read, None)
