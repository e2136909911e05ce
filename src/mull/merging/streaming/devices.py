"""Where the arithmetic of a merge runs: on the CPU, or on a CUDA device that pieces travel to and from."""

from __future__ import annotations

import re
from types import TracebackType

import torch
from torch import Tensor

from mull.checkpoints.blocks import Buffer
from mull.errors import MullError


class Host:
    """The CPU, for one thread: pieces are used where they were read."""

    piece = 1 << 20
    """Elements per piece: so many that threads seldom wait for each other, few enough for the cache they share."""

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
        """The piece where the arithmetic runs. What it was read into may be filled anew only after `fetch`."""
        return piece

    def room(self, result: Tensor) -> Tensor:
        """Where the arithmetic runs, memory for what `fetch` will put into `result`."""
        return result

    def fetch(self, computed: Tensor, result: Tensor) -> None:
        """Copy what was computed in `room` to `result`, and wait until that and every `send` is done."""


class Cuda(Host):
    """A CUDA device, for one thread, on a stream of its own: while one thread reads, another's pieces travel.

    Every step is rounded as on the CPU (`check` makes sure of fused multiply-add), so that the bytes are the same but
    for the bits of NaN, of which torch's CPU code has several.
    """

    piece = 1 << 22
    """Kernels on less take longer to start than to run."""

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

    def room(self, result: Tensor) -> Tensor:
        return torch.empty_like(result, device=self._device)

    def fetch(self, computed: Tensor, result: Tensor) -> None:
        if computed.is_floating_point():
            computed.masked_fill_(computed.isnan(), torch.nan)  # as the CPU's kernels write it, not as the device does
        result.copy_(computed, non_blocking=True)
        self._stream.synchronize()


def stage(device: str) -> Host:
    """A new stage for one thread."""
    return Host() if device == "cpu" else Cuda(torch.device(device))


def check(device: str) -> None:
    """Raise MullError unless merges can run there: "cpu", "cuda" or "cuda:N"."""
    if device == "cpu":
        return
    if not re.fullmatch(r"cuda(:\d+)?", device):
        raise MullError(f"unknown device {device!r}", "it is cpu, cuda or cuda:N")
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(device.partition(":")[2] or 0) >= there:
        has = f"{there} CUDA device(s)" if there else "no CUDA device"
        raise MullError(f"{device} is not there: torch finds {has}", "leave --device out to merge on the CPU")
    if not _fuses(torch.device(device)):
        what = f"torch's addition on {device} rounds twice, so that the bytes would not be the CPU's"
        raise MullError(what, "leave --device out to merge on the CPU")


def _fuses(device: torch.device) -> bool:
    """Whether `add_(…, alpha=…)` is a fused multiply-add: x·x − round(x·x) is 0 if the product is rounded first."""
    for dtype, bits in ((torch.float32, 12), (torch.float64, 27)):
        x = 1 + 2.0**-bits
        rest = torch.full((64,), -(1 + 2.0 ** (1 - bits)), dtype=dtype, device=device)
        rest.add_(torch.full((64,), x, dtype=dtype, device=device), alpha=x)
        if not bool((rest == 2.0 ** (-2 * bits)).all()):
            return False
    return True
