"""Access to the compiled kernels (kernels/), if they are installed.

`kernels` is None if there was no compiler at installation, or if the processor has no fused multiply-add. For each
kernel there is torch code that gives the same bytes, except for the bits of NaN.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

MODELS = 16
"""The largest number of models that the kernels accept."""

kernels: Any = None
with suppress(ImportError):
    from mull.merging import _kernels

    kernels = _kernels


def supports(*tensors: Tensor) -> bool:
    """Whether the kernels can work on these tensors: bfloat16 in the CPU's memory."""
    return kernels is not None and all(t.dtype == torch.bfloat16 and t.device.type == "cpu" for t in tensors)


def memory(tensor: Tensor) -> Any:
    """The tensor's memory as an integer array, because numpy has no bfloat16."""
    return tensor.view(torch.int16 if tensor.itemsize == 2 else torch.int32).numpy()


def inputs(models: list[Tensor], base: Tensor | None) -> tuple[tuple[Any, ...], Any] | None:
    """Buffers of the models and the base for a kernel, or None where the kernels cannot be used."""
    if len(models) > MODELS or not supports(*models) or not (base is None or supports(base)):
        return None
    return tuple(map(memory, models)), None if base is None else memory(base)
