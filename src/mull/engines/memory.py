"""What a failed allocation is, on CPU or GPU, in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mull.errors import MullError

MEMORY_REMEDY = "Both ends and their mixture are held at once: take a smaller pair or a device with more memory"


@contextmanager
def memory_errors(what: str, remedy: str) -> Iterator[None]:
    """Turns a failed allocation, on CPU or GPU, into a `MullError` "out of memory `what`"."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch's own OutOfMemoryError is a RuntimeError
        text = str(error)
        allocator = "can't allocate memory" in text or "not enough memory" in text  # the CPU's has no type of its own
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or allocator:
            raise MullError(f"out of memory {what}", remedy) from error
        raise
