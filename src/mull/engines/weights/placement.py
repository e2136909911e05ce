"""Where the checkpoints' weights are kept beside the mixed model.

On CPU transformers leaves a tensor in the mapped safetensors file if its dtype is the one that is asked for. The system
reads such pages when they are used and may drop them when memory is short. Tensors that transformers casts, or makes
from several (a layer's experts in one stack), are in CPU memory in any case.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import PreTrainedModel

from mull.checkpoints.checkpoint import Checkpoint
from mull.engines.memory import known_free_memory
from mull.errors import MullError
from mull.words import format_bytes

log = logging.getLogger(__name__)


class Placement(StrEnum):
    """Where the checkpoints' weights are kept."""

    device = "device"
    """Beside the mixed model, where mixing is fastest."""
    memory = "memory"
    """In CPU memory."""
    files = "files"
    """In the mapped files, as far as the files hold the model's own tensors."""


class WeightBytes(NamedTuple):
    """Bytes of weights, as the files' headers say."""

    ends: int
    """Of all checkpoints, in their own dtypes."""
    mixed: int
    """Of one mixed model in the dtype of the arithmetic."""


def weight_bytes(folders: Mapping[str, Path], donor: str, dtype: torch.dtype | None) -> WeightBytes:
    """Bytes of the checkpoints in `folders` and of their mixture; `dtype` None: that of the checkpoint `donor`."""
    checkpoints = {role: Checkpoint(folder) for role, folder in folders.items()}
    given = checkpoints[donor]
    mixed = given.nbytes if dtype is None else given.parameters * dtype.itemsize
    return WeightBytes(sum(checkpoint.nbytes for checkpoint in checkpoints.values()), mixed)


def chosen_placement(needed: WeightBytes, device: torch.device, given: Placement | None = None) -> Placement:
    """`given`, or else: on a GPU if a third of its free memory is left beside all weights, for cache and activations;
    if not, and on other devices, files.

    Raises `MullError` if the weights cannot fit then.
    """
    free, memory = known_free_memory(device), known_free_memory(torch.device("cpu"))
    if given is None:
        roomy = device.type == "cuda" and free is not None and free - sum(needed) >= free // 3
        given = Placement.device if roomy else Placement.files
    beside = given == Placement.device or (given == Placement.memory and device.type != "cuda")
    if free is not None and needed.mixed + beside * needed.ends > free:
        parts = f"{format_bytes(needed.mixed)} mixed" + (f", {format_bytes(needed.ends)} of the ends" if beside else "")
        raise MullError(
            f"the weights ({parts}) do not fit {device}, which has {format_bytes(free)} free",
            "Give --ends files" if beside else "Give --dtype bfloat16 if it is float32, or take a smaller pair",
        )
    if given == Placement.memory and memory is not None and needed.ends > memory:
        what = f"the ends take {format_bytes(needed.ends)}, and {format_bytes(memory)} of CPU memory is free"
        raise MullError(what, "Give --ends files")
    log.debug("%d bytes of weights on %s, %d of the ends: %s", needed.mixed, device, needed.ends, given.value)
    return given


def place(model: PreTrainedModel, placement: Placement, device: torch.device) -> PreTrainedModel:
    """Moves a model that was loaded on CPU; its parameters are moved one by one and stay the same objects."""
    if placement == Placement.memory or (placement == Placement.device and device.type == "cpu"):
        model._apply(torch.clone)
    elif placement == Placement.device:
        torch.nn.Module.to(model, device)
    return model
