"""Reads pieces of tensors, from memory-mapped files or into reused buffers. All passes over checkpoints use this.

Allocating memory for each whole tensor takes several times as long as reading it. One buffer per thread avoids that,
and a mapped file (files.c) avoids copying as well.
"""

from __future__ import annotations

import errno
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

from mull import portable
from mull.checkpoints.headers import ITEM_BYTES, TensorInfo
from mull.errors import MullError

compiled: Any = None
with suppress(ImportError):  # not on Linux, or no compiler at installation
    from mull.checkpoints import _files  # pyright: ignore[reportAttributeAccessIssue]

    compiled = _files

_MAX_RESIDENT = 1 << 25
"""Bytes read from mapped files after which their pages are released, because they count as memory of this process."""
TORCH_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool,
}  # fmt: skip
_WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _torch_dtype(dtype: str) -> torch.dtype:
    """The torch dtype, or an integer of as many bytes if torch has none: enough to copy elements."""
    return TORCH_DTYPES.get(dtype, _WORDS[ITEM_BYTES[dtype]])


class Buffer:
    """Page-aligned memory for one piece of a tensor, reused from piece to piece.

    `pinned`: page-locked, so that a CUDA device can read and write it directly.
    """

    def __init__(self, nbytes: int, *, pinned: bool = False) -> None:
        nbytes = max(nbytes, 1)
        held: Any
        if pinned:
            held = torch.empty(nbytes, dtype=torch.uint8, pin_memory=True).numpy()
        else:
            held = portable.page_aligned(nbytes)
        self.bytes = memoryview(held)

    def view(self, dtype: str, count: int) -> Tensor:
        """The first `count` elements of this memory as a tensor `[count]`, without a copy."""
        return torch.frombuffer(self.bytes, dtype=_torch_dtype(dtype), count=count)


class Files:
    """Open files by path; leaving the `with` block closes all. Several threads may read.

    `mapped`: `elements` may return memory of mapped files. False for CUDA, which copies from pinned buffers.
    """

    def __init__(self, *, mapped: bool = True) -> None:
        self._mapping_type = compiled.Mapping if mapped and compiled else None
        self._descriptors: dict[Path, int] = {}
        self._mappings: dict[Path, Any] = {}
        self._mapping_lock = Lock()
        self._resident = 0

    def open(self, path: Path) -> int:
        if path not in self._descriptors:
            try:
                self._descriptors[path] = os.open(path, os.O_RDONLY | portable.BINARY)
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

    def read(self, path: Path, offset: int, target: memoryview) -> None:
        """Fill `target` with the file's bytes from `offset` on.

        Raises:
            MullError: the file ends too early (it changed since its header was read) or cannot be read.
        """
        done = 0
        while done < len(target):
            try:
                got = portable.read_at(self._descriptors[path], target[done:], offset + done)
            except OSError as error:
                raise _unreadable(path, error.strerror) from None
            if got == 0:
                raise _shorter(path)
            done += got

    def read_runs(self, info: TensorInfo, starts: NDArray[np.int64], length: int, target: memoryview) -> None:
        """Fill `target` with runs of `length` elements of a tensor, one run from each of `starts`.

        Raises:
            MullError: as `read`.
        """
        nbytes = length * ITEM_BYTES[info.dtype]
        offsets = info.start + starts * ITEM_BYTES[info.dtype]
        if compiled and compiled.read_runs(self._descriptors[info.file], offsets, nbytes, target):
            return
        for i, offset in enumerate(offsets.tolist()):
            self.read(info.file, offset, target[i * nbytes : (i + 1) * nbytes])

    def elements(self, info: TensorInfo, first: int, count: int, buffer: Buffer) -> Tensor:
        """Elements `[first, first + count)` of a tensor: in the mapped file, or in `buffer` if it is not mapped.

        Do not write to them. Call `check` before you rely on what was computed from them.

        Raises:
            MullError: as `read`.
        """
        nbytes = count * ITEM_BYTES[info.dtype]
        offset = info.start + first * ITEM_BYTES[info.dtype]
        mapping = self._mapped(info.file)
        if mapping is None or offset % ITEM_BYTES[info.dtype]:
            self.read(info.file, offset, buffer.bytes[:nbytes])
            return buffer.view(info.dtype, count)
        if offset + nbytes > len(mapping):
            raise _shorter(info.file)
        self._resident += nbytes
        if self._resident > _MAX_RESIDENT:
            self._resident = 0
            for used in filter(None, list(self._mappings.values())):
                used.release()
        return torch.frombuffer(mapping, dtype=_torch_dtype(info.dtype), count=count, offset=offset)

    def _mapped(self, path: Path) -> Any:
        """The file's mapping; None if it cannot be mapped."""
        with self._mapping_lock:
            if path not in self._mappings:
                self._mappings[path] = self._new_mapping(self._descriptors[path])
            return self._mappings[path]

    def _new_mapping(self, descriptor: int) -> Any:
        try:
            return self._mapping_type(descriptor, os.fstat(descriptor).st_size) if self._mapping_type else None
        except (OSError, ValueError):  # the file system cannot map files, or too many are mapped
            return None

    def check(self, paths: Iterable[Path]) -> None:
        """Raise MullError if one of these files became shorter, or if reading it through its mapping failed."""
        for path in paths:
            mapping = self._mappings.get(path)
            if mapping is not None:
                if os.fstat(self._descriptors[path]).st_size < len(mapping):
                    raise _shorter(path)
                if mapping.damaged():
                    raise _unreadable(path, os.strerror(errno.EIO))


def write_back(descriptor: int, offset: int, length: int) -> None:
    """Start writing these bytes to the disk without waiting, if the system supports it. `os.fsync` waits."""
    if compiled:
        compiled.write_back(descriptor, offset, length)


def _shorter(path: Path) -> MullError:
    return MullError(f"{path} became shorter while it was read", "make sure that nothing writes to it, then run again")


def _unreadable(path: Path, reason: str | None) -> MullError:
    return MullError(f"cannot read {path}: {reason}", "check the disk, then run the command again")
