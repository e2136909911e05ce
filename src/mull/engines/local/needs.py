"""What memory a pair takes on a device, by arithmetic on headers and configs: no weights are loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from mull.checkpoints.checkpoint import Checkpoint
from mull.engines.local.decoding.attention import ATTENTION
from mull.engines.local.decoding.layout import WIDTH_STEP, Layout, layout_of
from mull.engines.local.engine import default_processes, is_small
from mull.engines.memory import free_memory
from mull.engines.weights.interpolated import loading
from mull.engines.weights.placement import Placement, chosen_placement, weight_bytes


class Needs(NamedTuple):
    """Bytes, unless said otherwise."""

    device: str
    ends_at: str
    """The `Placement` of the checkpoints' weights."""
    ends: int
    stacked: int
    """Of these, experts that transformers stacks while it loads: in CPU memory even if `ends_at` is files."""
    mixed: int
    per_token: int
    """Keys and values of one more token of a row, windows not yet full; 0 if it is not known without weights."""
    per_row: int
    """Cache of a response of `tokens`."""
    tokens: int
    """Most tokens of a response, for which `rows` is meant."""
    rows: int
    """So many responses of this length are in the cache at once; of shorter ones there are more, up to the limit."""
    cache: int
    """The cache at its largest: half of what weights leave, or less if that holds all rows."""
    peak: int
    """Weights and cache on the device, beside activations and what Python and torch take (about 0.3 GB on CPU)."""
    free: int
    """On the device."""


def memory_needs(
    folders: Mapping[str, Path],
    donor: str,
    device: torch.device,
    *,
    tokens: int,
    batch_size: int,
    dtype: torch.dtype | None = None,
    ends: Placement | None = None,
    trust_remote_code: bool = False,
    by_row: bool = False,
) -> Needs:
    """What an engine with these options needs. `folders`: the checkpoints by role; `tokens`: the limit of a response.

    `batch_size`: the largest number of rows of one process. `by_row`: a λ per row, whose weights are both ends. Raises
    `MullError` if the weights cannot fit.
    """
    dtype = torch.float32 if dtype is None and device.type == "cpu" else dtype
    weights = weight_bytes(folders, donor, dtype)
    if by_row:
        weights, ends = weights._replace(mixed=2 * weights.mixed), Placement.files
    placement = chosen_placement(weights, device, ends)
    with loading("config", folders[donor], trust_remote_code):
        model, given = _without_weights(folders[donor], trust_remote_code)
    layout = _layout(model)
    per_token = per_row = 0
    free, stacked = free_memory(device), _stacked_bytes(model, folders)
    beside = placement == Placement.device or (placement == Placement.memory and device.type != "cuda")
    held = weights.mixed + (weights.ends if beside else stacked if device.type != "cuda" else 0)
    tokens = min(tokens, model.config.get_text_config().max_position_embeddings)
    if layout is not None:
        itemsize = (dtype or given).itemsize
        per_row = layout.row_bytes(-(-tokens // WIDTH_STEP) * WIDTH_STEP) * itemsize // _PROBED.itemsize
        per_token = (layout.row_bytes(2) - layout.row_bytes(1)) * itemsize // _PROBED.itemsize
    room = max(free - held, 0) // 2
    batch_size *= default_processes(is_small(device, weights.mixed))
    rows = min(batch_size, room // per_row) if per_row else 0
    cache = min(room, batch_size * per_row) if per_row else room
    return Needs(
        device=str(device),
        ends_at=placement.value,
        ends=weights.ends,
        stacked=stacked,
        mixed=weights.mixed,
        per_token=per_token,
        per_row=per_row,
        tokens=tokens,
        rows=rows,
        cache=cache,
        peak=held + cache,
        free=free,
    )


_PROBED = torch.bfloat16
"""The dtype of the models without weights: without weights transformers computes some experts in no other."""


def _without_weights(folder: Path, trust_remote_code: bool) -> tuple[PreTrainedModel, torch.dtype]:
    """The model of a folder on the device "meta", which has shapes only, and the checkpoint's dtype."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    given = config.dtype if isinstance(config.dtype, torch.dtype) else torch.float32
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            config, dtype=_PROBED, attn_implementation=ATTENTION, trust_remote_code=trust_remote_code
        )
    return model.eval(), given


def _layout(model: PreTrainedModel) -> Layout | None:
    """What the model's cache holds of a row; None if the model cannot be run without weights."""
    try:
        return layout_of(model)
    except (NotImplementedError, TypeError, AttributeError, RuntimeError, ValueError, IndexError):
        return None


def _stacked_bytes(model: PreTrainedModel, folders: Mapping[str, Path]) -> int:
    """Bytes of experts that the checkpoints' files hold one by one, in the checkpoints' dtypes."""
    stacks = {name: parameter.numel() for name, parameter in model.named_parameters() if parameter.dim() == 3}
    total = 0
    for folder in folders.values():
        checkpoint = Checkpoint(folder)
        share = checkpoint.nbytes / checkpoint.parameters
        total += round(share * sum(count for name, count in stacks.items() if name not in checkpoint.tensors))
    return total
