"""The compiled part of mull (kernels/), where there is one.

`kernels` is None without a compiler at installation, or on a processor without fused multiply-add. Everything it does
has an equal in torch, to the same bytes but for the bits of NaN.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

MODELS = 16
"""What the kernels have room for."""

kernels: Any = None
with suppress(ImportError):
    from mull.merging import _kernels

    kernels = _kernels


def applies(*tensors: Tensor) -> bool:
    """Whether the kernels can work on these: bfloat16 in the CPU's memory."""
    return kernels is not None and all(t.dtype == torch.bfloat16 and t.device.type == "cpu" for t in tensors)


def memory(tensor: Tensor) -> Any:
    """The tensor's memory as a buffer; numpy knows no bfloat16."""
    return tensor.view(torch.int16 if tensor.itemsize == 2 else torch.int32).numpy()


def inputs(models: list[Tensor], base: Tensor | None) -> tuple[tuple[Any, ...], Any] | None:
    """Buffers of the models and the base for a kernel, or None where it does not apply."""
    if len(models) > MODELS or not applies(*models) or not (base is None or applies(base)):
        return None
    return tuple(map(memory, models)), None if base is None else memory(base)
