"""What devices can hold and compute, and a failed allocation in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from mull.errors import MullError

WITHOUT_FLOAT64 = ("mps",)
"""Types of devices that cannot compute in float64."""
MEMORY_REMEDY = "Give --ends files, or take a smaller pair or a device with more memory"


def free_memory(device: torch.device) -> int:
    """Bytes that can be allocated; 8 GiB if the system does not say."""
    return known_free_memory(device) or 8 << 30


def known_free_memory(device: torch.device) -> int | None:
    """Bytes that can be allocated; None if the system does not say. Pages of files that can be dropped are free."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # reserved by torch, but free
        return torch.cuda.mem_get_info(device)[0] + unused
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return None


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
