"""What a model's cache holds of one row: shapes, which layers keep only a window, bytes.

A layer keeps keys and values of every position, or of the last ones if it has a sliding window; or states of a fixed
size, as convolutions and linear attention do. One forward pass over one token shows which.
"""

from __future__ import annotations

import math
import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from transformers import Cache, PreTrainedModel

from mull.engines.forward import cache_name

WIDTH_STEP = 64
"""Attention widths (numbers of positions) are multiples of this, which is a multiple of every SIMD width. Then masked
positions at the end only add exact zeros to the same partial sums, and a row's result does not depend on the longest
row of its batch."""

ALL = sys.maxsize
"""The number of positions that a layer without a sliding window keeps."""


class Part(NamedTuple):
    """One tensor that a layer keeps of each row."""

    shape: tuple[int, ...]
    """`[kv_heads, 1, head_dim]` for keys and values, whose second dimension grows."""
    dtype: torch.dtype
    most: int | None = None
    """The largest number of positions kept; None for a state, whose size is fixed."""

    def sized(self, width: int) -> tuple[int, ...]:
        """The shape of one row with `width` positions."""
        return self.shape if self.most is None else (self.shape[0], min(width, self.most), self.shape[2])

    def bytes(self, width: int) -> int:
        return math.prod(self.sized(width)) * self.dtype.itemsize


@dataclass(frozen=True)
class Layout:
    """All parts that a model's cache holds of a row, by layer and name."""

    layers: Mapping[int, Mapping[str, Part]]
    windows: Mapping[int, int]
    """The sliding window of each layer that has one."""
    device: torch.device

    @cached_property
    def recurrent(self) -> bool:
        """Whether a layer has a state, which holds the whole text and cannot be cut back to its beginning."""
        return any(part.most is None for parts in self.layers.values() for part in parts.values())

    @property
    def whole(self) -> bool:
        """Whether every layer keeps every position, so that the beginning of a text can be used without its rest."""
        return not self.recurrent and not self.windows

    def with_windows(self, windows: Mapping[int, int], step: int = WIDTH_STEP) -> Layout:
        """The same with these sliding windows. A layer keeps its window, rounded up to a multiple of `step`."""
        layers = {}
        for layer, parts in self.layers.items():
            most = -(-windows[layer] // step) * step if layer in windows else ALL
            layers[layer] = {
                name: part if part.most is None else part._replace(most=most) for name, part in parts.items()
            }
        return Layout(layers, windows, self.device)

    def row_bytes(self, width: int) -> int:
        """Bytes of one row with `width` positions: those of all layers, plus those of the largest layer again.

        One layer is in memory twice while the cache changes its size (`RowCache.resize`).
        """
        alike = Counter(tuple(parts.values()) for parts in self.layers.values())
        sizes = {parts: sum(part.bytes(width) for part in parts) for parts in alike}
        return sum(sizes[parts] * count for parts, count in alike.items()) + max(sizes.values())

    def width_within(self, size: int) -> int:
        """The largest number of positions with which a row takes no more than `size` bytes; 0 if there is none."""
        return max(0, bisect_right(range(_LONGEST), size, key=self.row_bytes) - 1)

    def holds_prompt(self, length: int, position: int) -> bool:
        """Whether a row whose next token is at `position` still holds all that its prompt of `length` tokens left.

        States go on with each token. A layer with a window w has lost nothing that the prompt's last token reads,
        if it keeps the w − 1 positions before that token.
        """
        if self.recurrent:
            return position == length - 1
        return all(
            position - (part.most or 0) <= max(0, length - self.windows[layer])
            for layer in self.windows
            for part in self.layers[layer].values()
        )


_LONGEST = 1 << 32
"""More positions than any context has."""


@torch.inference_mode()
def layout_of(model: PreTrainedModel) -> Layout:
    """The layout of `model`'s cache, by a forward pass over one token."""
    recorder = _Recorder()
    windows: dict[int, int] = {}
    embedding: Any = model.get_input_embeddings()
    token = torch.zeros(1, 1, dtype=torch.int64, device=embedding.weight.device)
    model(
        input_ids=token,
        position_ids=token,
        use_cache=True,
        logits_to_keep=1,
        row_windows=windows,
        **{cache_name(model): recorder},
    )
    if not recorder.found:
        raise NotImplementedError("it does not use the cache it is given")
    return Layout(recorder.found, {}, token.device).with_windows(windows)


class _Recorder(Cache):
    """Notes the shapes of what each layer would store. Has the methods of transformers' caches that layers call."""

    def __init__(self) -> None:
        super().__init__(layers=[])
        self.found: dict[int, dict[str, Part]] = {}

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        for name, new in (("keys", key_states), ("values", value_states)):
            self._note(layer_idx, name, Part((new.shape[1], 1, new.shape[3]), new.dtype, ALL))
        return key_states, value_states

    def update_conv_state(
        self, conv_states: torch.Tensor, layer_idx: int, state_idx: int = 0, *, conv_kernel_size: int, **kwargs: Any
    ) -> torch.Tensor:
        self._note(layer_idx, f"conv{state_idx}", Part((conv_states.shape[1], conv_kernel_size), conv_states.dtype))
        return conv_states

    def update_recurrent_state(
        self, recurrent_states: torch.Tensor, layer_idx: int, state_idx: int = 0, **kwargs: Any
    ) -> torch.Tensor:
        part = Part(tuple(recurrent_states.shape[1:]), recurrent_states.dtype)
        self._note(layer_idx, f"recurrent{state_idx}", part)
        return recurrent_states

    def get_conv_state(self, layer_idx: int, state_idx: int = 0) -> None:
        return None

    def get_recurrent_state(self, layer_idx: int, state_idx: int = 0) -> None:
        return None

    def has_previous_state(self, layer_idx: int | None = None, state_idx: int | None = None) -> bool:
        return False

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0

    def _note(self, layer: int, name: str, part: Part) -> None:
        self.found.setdefault(layer, {})[name] = part
