"""Reads pieces of tensors into reused buffers: what every pass over whole checkpoints is built on.

A fresh temporary for each whole tensor costs several times the reading itself; one buffer per thread does not.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from mull.checkpoints.headers import TensorInfo
from mull.errors import MullError

TORCH_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool,
}  # fmt: skip


class Buffer:
    """Page-aligned memory for one piece of a tensor, reused from piece to piece.

    `pinned`: the system keeps it in place, so that a CUDA device reads and writes it by itself.
    """

    def __init__(self, nbytes: int, *, pinned: bool = False) -> None:
        nbytes = max(nbytes, 1)
        held: Any
        if pinned:
            held = torch.empty(nbytes, dtype=torch.uint8, pin_memory=True).numpy()
        else:
            held = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.bytes = memoryview(held)

    def view(self, dtype: str, count: int) -> Tensor:
        """The first `count` elements as a tensor `[count]` over this memory."""
        return torch.frombuffer(self.bytes, dtype=TORCH_DTYPES[dtype], count=count)


class Files:
    """Open files by path, closed together. Reading at an offset is safe from several threads."""

    def __init__(self) -> None:
        self._descriptors: dict[Path, int] = {}

    def open(self, path: Path) -> int:
        if path not in self._descriptors:
            try:
                self._descriptors[path] = os.open(path, os.O_RDONLY)
            except OSError as error:
                what = f"cannot read {path}: {error.strerror}"
                raise MullError(what, "check that it exists and that you may read it") from None
        return self._descriptors[path]

    def __enter__(self) -> Files:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()

    def read(self, path: Path, offset: int, into: memoryview) -> None:
        """Fill `into` from byte `offset` on.

        Raises:
            MullError: the file ends too early (it changed since its header was read) or cannot be read.
        """
        done = 0
        while done < len(into):
            try:
                got = os.preadv(self._descriptors[path], [into[done:]], offset + done)
            except OSError as error:
                raise MullError(
                    f"cannot read {path}: {error.strerror}", "check the disk, then run the command again"
                ) from None
            if got == 0:
                raise MullError(
                    f"{path} became shorter while it was read", "make sure that nothing writes to it, then run again"
                )
            done += got


def read_piece(files: Files, info: TensorInfo, first: int, count: int, buffer: Buffer) -> Tensor:
    """Elements `[first, first + count)` of a tensor, flattened, in `buffer`."""
    item = info.nbytes // info.numel
    files.read(info.file, info.start + first * item, buffer.bytes[: count * item])
    return buffer.view(info.dtype, count)
