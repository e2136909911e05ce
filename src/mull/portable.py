"""What only some systems offer, and what is done on the others: locks, reads and writes at an offset, timers.

Windows lacks all of it, macOS a part. Each function asks for what it needs when it is called.
"""

from __future__ import annotations

import contextlib
import importlib
import mmap
import os
import signal
from threading import Lock
from typing import Any

BINARY: int = getattr(os, "O_BINARY", 0)
"""For `os.open`: Windows would change the ends of lines otherwise."""
_moving = Lock()
"""Held by whoever moves the position of an open file, where reads and writes at an offset are missing."""


def module(name: str) -> Any:
    """The module, or None where the system has none."""
    with contextlib.suppress(ImportError):
        return importlib.import_module(name)
    return None


def lock(descriptor: int, *, shared: bool = False) -> None:
    """Lock an open file against other processes until it is closed; `shared`: only against those that lock it alone,
    where the system has such locks.

    Raises:
        BlockingIOError: another process has locked it.
        OSError: the file system cannot lock files.
    """
    fcntl = module("fcntl")
    if fcntl is not None:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        return
    msvcrt = importlib.import_module("msvcrt")
    try:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    except PermissionError as error:
        raise BlockingIOError(error.errno, error.strerror) from None


def read_at(descriptor: int, target: memoryview, offset: int) -> int:
    """Read into `target` from `offset` on, and return how many bytes were read. Several threads may call it."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [target], offset)
    with _moving:
        os.lseek(descriptor, offset, os.SEEK_SET)
        data = os.read(descriptor, min(len(target), 1 << 24))
    target[: len(data)] = data
    return len(data)


def write_at(descriptor: int, data: memoryview, offset: int) -> int:
    """Write `data` at `offset`, and return how many bytes were written. Several threads may call it."""
    if hasattr(os, "pwrite"):
        return os.pwrite(descriptor, data, offset)
    with _moving:
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.write(descriptor, data)


def reserve(descriptor: int, nbytes: int) -> None:
    """Allocate so many bytes of a new file on the disk, so that a full disk shows at once, and set its length.

    Without `posix_fallocate`, as on macOS, a full disk only shows while writing.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, nbytes)
    os.ftruncate(descriptor, nbytes)


def page_aligned(nbytes: int) -> mmap.mmap:
    """Memory that begins at a page, not shared with other processes where they are forked."""
    if hasattr(mmap, "MAP_ANONYMOUS"):
        return mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return mmap.mmap(-1, nbytes)


def limit_processor_time(seconds: float) -> None:
    """End this process by a signal after so many seconds of CPU time; 0: no more. Nothing without such timers."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)
