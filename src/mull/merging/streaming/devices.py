"""Where the arithmetic of a merge runs: on the CPU, or on a CUDA device to which pieces are copied and back."""

from __future__ import annotations

import re
from types import TracebackType

import torch
from torch import Tensor

from mull.checkpoints.blocks import Buffer
from mull.errors import MullError


class Host:
    """The CPU, as one thread uses it: pieces stay where they were read."""

    piece_size = 1 << 20
    """Elements per piece: many, so that threads seldom wait for each other, but few enough for the CPU's cache."""

    def __enter__(self) -> Host:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def buffer(self, nbytes: int) -> Buffer:
        """Memory for one piece."""
        return Buffer(nbytes)

    def send(self, piece: Tensor) -> Tensor:
        """The piece on the device. The memory it was read into must not be overwritten before `fetch` returns."""
        return piece

    def allocate_for(self, result: Tensor) -> Tensor:
        """Memory on the device for what `fetch` will copy to `result`: same shape and dtype."""
        return result

    def fetch(self, computed: Tensor, result: Tensor) -> None:
        """Copy `computed` from the device to `result`, and wait until that copy and every `send` are done."""


class Cuda(Host):
    """A CUDA device, as one thread uses it, with its own stream: one thread reads while another's pieces are copied.

    Every step is rounded as on the CPU (`check` tests that the device has fused multiply-add), so that the bytes are
    the same. NaN is the exception: torch's CPU code writes it with several bit patterns.
    """

    piece_size = 1 << 22
    """Elements per piece: on fewer, a kernel takes longer to start than to run."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._context = torch.cuda.stream(self._stream)

    def __enter__(self) -> Cuda:
        self._context.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._stream.synchronize()
        finally:
            self._context.__exit__(kind, error, trace)

    def buffer(self, nbytes: int) -> Buffer:
        return Buffer(nbytes, pinned=True)

    def send(self, piece: Tensor) -> Tensor:
        return piece.to(self._device, non_blocking=True)

    def allocate_for(self, result: Tensor) -> Tensor:
        return torch.empty_like(result, device=self._device)

    def fetch(self, computed: Tensor, result: Tensor) -> None:
        if computed.is_floating_point():
            computed.masked_fill_(computed.isnan(), torch.nan)  # with the bits that the CPU kernels write
        result.copy_(computed, non_blocking=True)
        self._stream.synchronize()


def stage(device: str) -> Host:
    """The device called `device`, for one thread."""
    return Host() if device == "cpu" else Cuda(torch.device(device))


def check(device: str) -> None:
    """Raise MullError unless merges can run on `device`: "cpu", "cuda" or "cuda:N"."""
    if device == "cpu":
        return
    if not re.fullmatch(r"cuda(:\d+)?", device):
        raise MullError(f"unknown device {device!r}", "it is cpu, cuda or cuda:N")
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(device.partition(":")[2] or 0) >= available:
        has = f"{available} CUDA device(s)" if available else "no CUDA device"
        raise MullError(f"{device} is not there: torch finds {has}", "leave --device out to merge on the CPU")
    if not _fuses(torch.device(device)):
        what = f"torch's addition on {device} rounds twice, so that the bytes would not be the CPU's"
        raise MullError(what, "leave --device out to merge on the CPU")


def _fuses(device: torch.device) -> bool:
    """Whether `add_(…, alpha=…)` is a fused multiply-add. With two roundings, x·x − round(x·x) would be 0."""
    for dtype, bits in ((torch.float32, 12), (torch.float64, 27)):
        x = 1 + 2.0**-bits
        rest = torch.full((64,), -(1 + 2.0 ** (1 - bits)), dtype=dtype, device=device)
        rest.add_(torch.full((64,), x, dtype=dtype, device=device), alpha=x)
        if not bool((rest == 2.0 ** (-2 * bits)).all()):
            return False
    return True
