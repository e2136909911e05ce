"""Random numbers without state: the n-th number of a stream depends only on key, stream and n, not on threads or order.

Philox 4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"); kernels/random.h has the same in C.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

_LOW_32_BITS = 0xFFFFFFFF


def key_of(seed: int, name: str) -> int:
    """The 64-bit key of the tensor `name`, so that every tensor has its own random numbers."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest(), "little")


def random_numbers(key: int, stream: int, first: int, count: int) -> NDArray[np.uint32]:
    """Numbers `[first, first + count)` of a stream: uint32 `[count]`."""
    import numpy as np

    start, stop = first // 4, -(-(first + count) // 4)
    counters = np.arange(start, stop, dtype=np.uint64)
    x0, x1 = counters & np.uint64(_LOW_32_BITS), counters >> np.uint64(32)
    x2, x3 = np.full_like(counters, stream), np.zeros_like(counters)
    k0, k1 = key & _LOW_32_BITS, key >> 32
    for _ in range(10):
        a, b = x0 * np.uint64(0xD2511F53), x2 * np.uint64(0xCD9E8D57)
        x0 = (b >> np.uint64(32)) ^ x1 ^ np.uint64(k0)
        x2 = (a >> np.uint64(32)) ^ x3 ^ np.uint64(k1)
        x1, x3 = b & np.uint64(_LOW_32_BITS), a & np.uint64(_LOW_32_BITS)
        k0, k1 = (k0 + 0x9E3779B9) & _LOW_32_BITS, (k1 + 0xBB67AE85) & _LOW_32_BITS
    numbers = np.stack([x0, x1, x2, x3], axis=1).astype(np.uint32).reshape(-1)
    return numbers[first - 4 * start :][:count]


def numbers_like(values: Tensor, key: int, stream: int, first: int) -> Tensor:
    """Numbers `[first, first + n)` of a stream for the n elements of `values`: int64, on their device."""
    import torch

    count = values.numel()
    if values.device.type == "cpu":
        return torch.from_numpy(random_numbers(key, stream, first, count).astype("int64"))
    return _random_numbers_on(values.device, key, stream, first, count)


def _random_numbers_on(device: torch.device, key: int, stream: int, first: int, count: int) -> Tensor:
    """`random_numbers` with torch's int64, whose products overflow; their lower 64 bits are correct."""
    import torch

    start, stop = first // 4, -(-(first + count) // 4)
    counters = torch.arange(start, stop, dtype=torch.int64, device=device)
    x0, x1 = counters & _LOW_32_BITS, (counters >> 32) & _LOW_32_BITS
    x2, x3 = torch.full_like(counters, stream), torch.zeros_like(counters)
    k0, k1 = key & _LOW_32_BITS, key >> 32
    for _ in range(10):
        a, b = x0 * 0xD2511F53, x2 * 0xCD9E8D57
        x0 = ((b >> 32) & _LOW_32_BITS) ^ x1 ^ k0
        x2 = ((a >> 32) & _LOW_32_BITS) ^ x3 ^ k1
        x1, x3 = b & _LOW_32_BITS, a & _LOW_32_BITS
        k0, k1 = (k0 + 0x9E3779B9) & _LOW_32_BITS, (k1 + 0xBB67AE85) & _LOW_32_BITS
    return torch.stack([x0, x1, x2, x3], dim=1).view(-1)[first - 4 * start :][:count]


def threshold(probability: float) -> int:
    """The number t for which a random 32-bit number is below t with this probability; 0 stands for probability 1."""
    return 0 if probability == 1 else max(1, min(round(probability * 2**32), _LOW_32_BITS))
