"""A key/value cache whose rows are independent of each other.

A slot holds one response. Each decode step writes one position per slot, which differs from slot to slot. So a new
response can take the slot of a finished one while the others continue. Knows no requests, no sampling and no λ.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from transformers import Cache

WIDTH_STEP = 64
"""Attention widths (numbers of positions) are multiples of this, which is a multiple of every SIMD width. Then masked
positions at the end only add exact zeros to the same partial sums, and a row's result does not depend on the longest
row of its batch."""


class LayerStates(NamedTuple):
    """Keys and values of one layer: `[slots, kv_heads, width, head_dim]`."""

    keys: torch.Tensor
    values: torch.Tensor


class RowCache(Cache):
    """Keys and values `[slots, kv_heads, width, head_dim]` per layer; each slot is written at its own position.

    `resize` sets its size. New memory is filled with 0: masked positions are multiplied by 0, so they must be finite.
    """

    def __init__(self) -> None:
        super().__init__(layers=[])
        self.slots = 0
        self.width = 0
        self.states: list[LayerStates] = []
        """One entry per layer that has written so far."""
        self._prefill_slots: torch.Tensor | None = None
        self._positions: torch.Tensor | None = None
        self._write_index: dict[int, torch.Tensor] = {}

    def resize(self, slots: int, width: int) -> None:
        """Changes the size to `slots` rows of `width` positions. What fits into the new size is kept.

        Layers are copied one at a time, so that at most one is in memory twice.
        """
        if (slots, width) == (self.slots, self.width):
            return
        self.slots, self.width = slots, width
        for number in range(len(self.states)):
            self.states[number] = LayerStates(*(_resized(tensor, slots, width) for tensor in self.states[number]))

    def begin_prefill(self, slots: torch.Tensor) -> None:
        """The next forward pass is over prompts `[n, L]`, which start at position 0 of `slots` (int64 `[n]`)."""
        self._prefill_slots = slots

    def begin_decode(self, positions: torch.Tensor) -> None:
        """The next forward pass is over one token for each of slots 0 … n−1, at `positions` (int64 `[n]`)."""
        self._prefill_slots, self._positions = None, positions
        self._write_index.clear()

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Stores `[n, kv_heads, L, head_dim]` and returns the keys and values that the attention reads."""
        if layer_idx == len(self.states):
            shape = (self.slots, key_states.shape[1], self.width)
            self.states.append(
                LayerStates(*(new.new_zeros(*shape, new.shape[3]) for new in (key_states, value_states)))
            )
        layer = self.states[layer_idx]
        if self._prefill_slots is not None:
            length = key_states.shape[2]
            layer.keys[self._prefill_slots, :, :length] = key_states
            layer.values[self._prefill_slots, :, :length] = value_states
            return key_states, value_states
        index = self._decode_index(key_states.shape[1])
        for cached, new in ((layer.keys, key_states), (layer.values, value_states)):
            cached.view(-1, new.shape[3]).index_copy_(0, index, new.reshape(-1, new.shape[3]))
        return layer

    def copy_prompt(self, source: torch.Tensor, target: torch.Tensor, length: int) -> None:
        """Copies the first `length` positions of slots `source` to slots `target` (both int64 `[n]`)."""
        for layer in self.states:
            layer.keys[target, :, :length] = layer.keys[source, :, :length]
            layer.values[target, :, :length] = layer.values[source, :, :length]

    def permute(self, order: torch.Tensor, width: int) -> None:
        """Slot i takes the first `width` positions of slot `order[i]` (int64 `[n]`, distinct), for all i < n."""
        count = len(order)
        for layer in self.states:
            for tensor in layer:
                tensor[:count, :, :width] = tensor[:, :, :width].index_select(0, order)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Always 0: rows have different lengths, so callers give positions and masks explicitly."""
        return 0

    def _decode_index(self, kv_heads: int) -> torch.Tensor:
        """Indices of the new positions in the cache as `[slots·kv_heads·width, head_dim]`: int64 `[n·kv_heads]`."""
        index = self._write_index.get(kv_heads)
        if index is None:
            positions = self._positions
            assert positions is not None, "begin_decode comes before a decode forward"
            lanes = torch.arange(len(positions) * kv_heads, device=positions.device).view(-1, kv_heads)
            index = (lanes * self.width + positions[:, None]).view(-1)
            self._write_index[kv_heads] = index
        return index


def _resized(tensor: torch.Tensor, slots: int, width: int) -> torch.Tensor:
    resized = tensor.new_zeros(slots, tensor.shape[1], width, tensor.shape[3])
    kept = tensor[:slots, :, :width]
    resized[: kept.shape[0], :, : kept.shape[2]] = kept
    return resized
