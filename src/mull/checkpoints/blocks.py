"""Pieces of tensors, where they lie in mapped files or read into reused buffers: what every pass over checkpoints is
built on.

A fresh temporary for each whole tensor costs several times the reading itself. One buffer per thread does not, and a
mapped file (files.c) spares the copy too.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mull.checkpoints.headers import ITEM_BYTES, TensorInfo
from mull.errors import MullError

compiled: Any = None
with suppress(ImportError):  # not on Linux, or no compiler at installation
    from mull.checkpoints import _files  # pyright: ignore[reportAttributeAccessIssue]

    compiled = _files

_HELD = 1 << 25
"""Bytes that are looked at in mapped files before the system may take them back: they count as this process's."""
TORCH_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool,
}  # fmt: skip
_WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _torch_dtype(dtype: str) -> torch.dtype:
    """An integer of as many bytes where torch has no such dtype: enough to copy it."""
    return TORCH_DTYPES.get(dtype, _WORDS[ITEM_BYTES[dtype]])


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
        return torch.frombuffer(self.bytes, dtype=_torch_dtype(dtype), count=count)


class Files:
    """Open files by path, closed together. Reading is safe from several threads.

    `mapped`: `elements` may lie in mapped files. A device fetches them from pinned buffers instead.
    """

    def __init__(self, *, mapped: bool = True) -> None:
        self._map = compiled.Mapping if mapped and compiled else None
        self._descriptors: dict[Path, int] = {}
        self._mappings: dict[Path, Any] = {}
        self._mapping = Lock()
        self._looked_at = 0

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
        self._mappings.clear()

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
                raise _unreadable(path, error.strerror) from None
            if got == 0:
                raise _shorter(path)
            done += got

    def read_runs(self, info: TensorInfo, starts: NDArray[np.int64], length: int, into: memoryview) -> None:
        """Fill `into` with runs of `length` elements of a tensor, one after the other, from each start on.

        Raises:
            MullError: as `read`.
        """
        nbytes = length * ITEM_BYTES[info.dtype]
        offsets = info.start + starts * ITEM_BYTES[info.dtype]
        if compiled and compiled.read_runs(self._descriptors[info.file], offsets, nbytes, into):
            return
        for i, offset in enumerate(offsets.tolist()):
            self.read(info.file, offset, into[i * nbytes : (i + 1) * nbytes])

    def elements(self, info: TensorInfo, first: int, count: int, buffer: Buffer) -> Tensor:
        """Elements `[first, first + count)` of a tensor: in place where the file is mapped, else in `buffer`.

        They must not be written to, and `check` comes before what was made of them counts.

        Raises:
            MullError: as `read`.
        """
        nbytes = count * ITEM_BYTES[info.dtype]
        offset = info.start + first * ITEM_BYTES[info.dtype]
        place = self._mapped(info.file)
        if place is None or offset % ITEM_BYTES[info.dtype]:
            self.read(info.file, offset, buffer.bytes[:nbytes])
            return buffer.view(info.dtype, count)
        if offset + nbytes > len(place):
            raise _shorter(info.file)
        self._looked_at += nbytes
        if self._looked_at > _HELD:
            self._looked_at = 0
            for each in filter(None, list(self._mappings.values())):
                each.release()
        return torch.frombuffer(place, dtype=_torch_dtype(info.dtype), count=count, offset=offset)

    def _mapped(self, path: Path) -> Any:
        """The file's mapping; None where it cannot be mapped."""
        with self._mapping:
            if path not in self._mappings:
                self._mappings[path] = self._new(self._descriptors[path])
            return self._mappings[path]

    def _new(self, descriptor: int) -> Any:
        try:
            return self._map(descriptor, os.fstat(descriptor).st_size) if self._map else None
        except (OSError, ValueError):  # its file system does not map, or too many are mapped
            return None

    def check(self, paths: Iterable[Path]) -> None:
        """Raise MullError if one of these files was cut or could not be read where `elements` looked at it."""
        for path in paths:
            place = self._mappings.get(path)
            if place is not None:
                if os.fstat(self._descriptors[path]).st_size < len(place):
                    raise _shorter(path)
                if place.damaged():
                    raise _unreadable(path, os.strerror(errno.EIO))


def write_back(descriptor: int, offset: int, length: int) -> None:
    """Let the disk begin with bytes that were written, where the system can be told so. `os.fsync` makes sure."""
    if compiled:
        compiled.write_back(descriptor, offset, length)


def _shorter(path: Path) -> MullError:
    return MullError(f"{path} became shorter while it was read", "make sure that nothing writes to it, then run again")


def _unreadable(path: Path, reason: str | None) -> MullError:
    return MullError(f"cannot read {path}: {reason}", "check the disk, then run the command again")
