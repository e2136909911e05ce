"""The key/value cache whose rows live and die on their own, and the attention function that reads it.

A slot holds one response. Each decode step writes one position per slot, wherever that slot has got to, so a finished
response leaves and a new one takes its slot while the others go on. The attention function is registered with
transformers under `ATTENTION` and is handed to a model as its attention implementation; the layers stay transformers'.
Knows no requests, no sampling and no λ.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from transformers import AttentionInterface, Cache

ATTENTION = "mull_rows"
"""Name of `row_attention` among transformers' attention implementations."""

WIDTH_STEP = 64
"""Attention widths are multiples of this many positions: a multiple of every SIMD width, so that masked positions at
the end add exact zeros to the same partial sums and a row's result does not depend on the longest row of its batch."""


class Span(NamedTuple):
    """Neighbouring slots that attend over one width."""

    start: int
    stop: int
    width: int
    """Positions read, a multiple of `WIDTH_STEP`."""


class LayerStates(NamedTuple):
    """One layer's `[slots, kv_heads, width, head_dim]`."""

    keys: torch.Tensor
    values: torch.Tensor


class StepMask:
    """Which cached positions each row of a decode step may read: additive masks `[n, 1, 1, width]`, 0 or −inf.

    `positions` (int64 `[n]`) are those of the step's tokens. A sliding window of w leaves a token its last w positions,
    its own among them.
    """

    def __init__(self, positions: torch.Tensor, width: int, dtype: torch.dtype) -> None:
        self._positions = positions
        self._places = torch.arange(width, device=positions.device)
        hidden = self._places > positions[:, None]
        self.causal = torch.zeros(len(positions), 1, 1, width, dtype=dtype, device=positions.device)
        self.causal.masked_fill_(hidden[:, None, None], float("-inf"))
        self._within: dict[int, torch.Tensor] = {}

    def within(self, window: int | None) -> torch.Tensor:
        """The mask of a layer with this sliding window; None: of one without."""
        if window is None:
            return self.causal
        if window not in self._within:
            past = self._places <= self._positions[:, None] - window
            self._within[window] = self.causal.masked_fill(past[:, None, None], float("-inf"))
        return self._within[window]


class RowCache(Cache):
    """Keys and values `[slots, kv_heads, width, head_dim]` per layer, written at one position of its own per slot.

    Has the size that `resize` gave it. New memory is zeroed, because a masked position is multiplied by weight 0 and
    must be finite.
    """

    def __init__(self) -> None:
        super().__init__(layers=[])
        self.slots = 0
        self.width = 0
        self.states: list[LayerStates] = []
        """One per layer that has written so far."""
        self._prefill_slots: torch.Tensor | None = None
        self._positions: torch.Tensor | None = None
        self._write_index: dict[int, torch.Tensor] = {}

    def resize(self, slots: int, width: int) -> None:
        """Makes room for `slots` rows of `width` positions, no more; what is cached within both stays.

        One layer at a time, so that no more than one is held twice.
        """
        if (slots, width) == (self.slots, self.width):
            return
        self.slots, self.width = slots, width
        for number in range(len(self.states)):
            self.states[number] = LayerStates(*(_resized(tensor, slots, width) for tensor in self.states[number]))

    def begin_prefill(self, slots: torch.Tensor) -> None:
        """The next forward is a prompt `[len(slots), L]` that starts at position 0 of `slots` (int64 `[n]`)."""
        self._prefill_slots = slots

    def begin_decode(self, positions: torch.Tensor) -> None:
        """The next forward is one token for slots 0 … n−1 at `positions` (int64 `[n]`)."""
        self._prefill_slots, self._positions = None, positions
        self._write_index.clear()

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Stores `[n, kv_heads, L, head_dim]` and returns what the attention is to read."""
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
        """Copies the first `length` positions of the slots `source` to the slots `target` (int64 `[n]` each)."""
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
        """0: rows differ, so positions and masks are always given explicitly."""
        return 0

    def _decode_index(self, kv_heads: int) -> torch.Tensor:
        """Where each row's new position lies in `[slots · kv_heads · width, head_dim]`: int64 `[n · kv_heads]`."""
        index = self._write_index.get(kv_heads)
        if index is None:
            positions = self._positions
            assert positions is not None, "begin_decode comes before a decode forward"
            lanes = torch.arange(len(positions) * kv_heads, device=positions.device).view(-1, kv_heads)
            index = (lanes * self.width + positions[:, None]).view(-1)
            self._write_index[kv_heads] = index
        return index


def row_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    row_spans: list[Span] | None = None,
    row_mask: StepMask | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of a prefill (`row_spans` None: causal within the prompt) or of a decode step over a `RowCache`.

    `query` `[n, heads, L, head_dim]`, `key` and `value` `[slots, kv_heads, W, head_dim]`; decode needs L = 1 and a
    `row_mask`. Returns `[n, L, heads, head_dim]`. The heads that share a key/value head are taken together as the rows
    of one small matrix, so keys and values are never repeated. A layer's sliding window hides what lies before it; the
    hidden keys and values are kept all the same.

    Raises `NotImplementedError` where the layer asks for something that this function does not do (soft capping,
    attention sinks, a position bias).
    """
    for option in ("softcap", "s_aux", "position_bias"):
        if kwargs.get(option) is not None:
            raise NotImplementedError(f"attention with {option}")
    rows, heads, length, head_dim = query.shape
    kv_heads = key.shape[1]
    if row_spans is None:
        mask = None if sliding_window is None or length <= sliding_window else _banded(length, sliding_window, query)
        output = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            is_causal=length > 1 and mask is None,
            scale=scaling,
            enable_gqa=heads != kv_heads,
        )
        return output.transpose(1, 2).contiguous(), None
    assert row_mask is not None and length == 1
    attention_mask = row_mask.within(sliding_window)
    shared = heads // kv_heads
    query = query.reshape(rows, kv_heads, shared, head_dim)
    if query.device.type != "cpu":
        (span,) = row_spans
        keys, values = key[: span.stop, :, : span.width], value[: span.stop, :, : span.width]
        output = F.scaled_dot_product_attention(query, keys, values, attn_mask=attention_mask, scale=scaling)
        return output.reshape(rows, 1, heads, -1), None
    query = query * (head_dim**-0.5 if scaling is None else scaling)
    value_dim = value.shape[3]
    output = query.new_empty(rows * kv_heads, shared, value_dim)
    for start, stop, width in row_spans:
        lanes = (stop - start) * kv_heads
        keys = key[start:stop, :, :width].view(lanes, width, head_dim)
        values = value[start:stop, :, :width].view(lanes, width, value_dim)
        scores = torch.bmm(query[start:stop].view(lanes, shared, head_dim), keys.transpose(1, 2))
        scores.view(stop - start, kv_heads, shared, width).add_(attention_mask[start:stop, :, :, :width])
        torch.bmm(torch.softmax(scores, -1), values, out=output[start * kv_heads : stop * kv_heads])
    return output.view(rows, 1, heads, value_dim), None


AttentionInterface.register(ATTENTION, row_attention)


def _banded(length: int, window: int, like: torch.Tensor) -> torch.Tensor:
    """Which positions each token of a prompt may read under a sliding window: bool `[length, length]`."""
    places = torch.arange(length, device=like.device)
    behind = places[:, None] - places
    return (behind >= 0) & (behind < window)


def _resized(tensor: torch.Tensor, slots: int, width: int) -> torch.Tensor:
    resized = tensor.new_zeros(slots, tensor.shape[1], width, tensor.shape[3])
    kept = tensor[:slots, :, :width]
    resized[: kept.shape[0], :, : kept.shape[2]] = kept
    return resized
