"""A key/value cache whose rows are independent of each other, and the attention function that reads it.

A slot holds one response. Each decode step writes one position per slot, which differs from slot to slot. So a new
response can take the slot of a finished one while the others continue. The attention function is registered with
transformers under the name `ATTENTION`; a model uses it as its attention implementation, and its layers are otherwise
those of transformers. Knows no requests, no sampling and no λ.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from transformers import AttentionInterface, Cache

ATTENTION = "mull_rows"
"""Name of `row_attention` among transformers' attention implementations."""

WIDTH_STEP = 64
"""Attention widths (numbers of positions) are multiples of this, which is a multiple of every SIMD width. Then masked
positions at the end only add exact zeros to the same partial sums, and a row's result does not depend on the longest
row of its batch."""


CAPPED_BLOCK = 128
"""Queries of a prompt that are computed at a time where scores are capped, which torch's own attention cannot do."""


class Span(NamedTuple):
    """Neighbouring slots that read the same number of positions."""

    start: int
    stop: int
    width: int
    """Positions read, a multiple of `WIDTH_STEP`."""


class LayerStates(NamedTuple):
    """Keys and values of one layer: `[slots, kv_heads, width, head_dim]`."""

    keys: torch.Tensor
    values: torch.Tensor


class StepMask:
    """Which cached positions each row of a decode step may read: additive masks `[n, 1, 1, width]`, 0 or −inf.

    `positions` (int64 `[n]`) are those of the step's tokens. With a sliding window of w, a token reads the last w
    positions, including its own.
    """

    def __init__(self, positions: torch.Tensor, width: int, dtype: torch.dtype) -> None:
        self._positions = positions
        self._cached = torch.arange(width, device=positions.device)
        future = self._cached > positions[:, None]
        self.causal = torch.zeros(len(positions), 1, 1, width, dtype=dtype, device=positions.device)
        self.causal.masked_fill_(future[:, None, None], float("-inf"))
        self._windowed: dict[int, torch.Tensor] = {}

    def for_window(self, window: int | None) -> torch.Tensor:
        """The mask of a layer with this sliding window; None = without one."""
        if window is None:
            return self.causal
        if window not in self._windowed:
            past = self._cached <= self._positions[:, None] - window
            self._windowed[window] = self.causal.masked_fill(past[:, None, None], float("-inf"))
        return self._windowed[window]


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


def row_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    row_spans: list[Span] | None = None,
    row_mask: StepMask | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of a prefill (no `row_mask`: causal within each prompt) or of a decode step over a `RowCache`.

    `query` `[n, heads, L, head_dim]`, `key` and `value` `[slots, kv_heads, W, head_dim]`; decode needs L = 1 and a
    `row_mask`. In a prefill, `row_spans` are rows of the same padded length; what is behind a row's is 0 in the result.
    Returns `[n, L, heads, head_dim]`. The heads that share a key/value head are the rows of one small
    matrix, so that keys and values are not repeated. A layer's sliding window masks earlier positions, but their keys
    and values stay in the cache.

    `softcap` c limits scores s to c·tanh(s/c), as Gemma 2 does. Raises `NotImplementedError` for attention sinks and
    position biases.
    """
    for option in ("s_aux", "position_bias"):
        if kwargs.get(option) is not None:
            raise NotImplementedError(f"attention with {option}")
    rows, heads, length, head_dim = query.shape
    kv_heads = key.shape[1]
    if row_mask is None:
        spans = row_spans or [Span(0, rows, length)]
        if len(spans) == 1 and spans[0].width == length:
            return _prefill(query, key, value, scaling, sliding_window, softcap), None
        output = query.new_zeros(rows, length, heads, value.shape[3])
        for start, stop, width in spans:
            queries, keys, values = (tensor[start:stop, :, :width] for tensor in (query, key, value))
            output[start:stop, :width] = _prefill(queries, keys, values, scaling, sliding_window, softcap)
        return output, None
    assert row_spans is not None and length == 1
    attention_mask = row_mask.for_window(sliding_window)
    group = heads // kv_heads  # query heads per key/value head
    query = query.reshape(rows, kv_heads, group, head_dim)
    if query.device.type != "cpu" and softcap is None:
        (span,) = row_spans
        keys, values = key[: span.stop, :, : span.width], value[: span.stop, :, : span.width]
        output = F.scaled_dot_product_attention(query, keys, values, attn_mask=attention_mask, scale=scaling)
        return output.reshape(rows, 1, heads, -1), None
    query = query * (head_dim**-0.5 if scaling is None else scaling)
    value_dim = value.shape[3]
    output = query.new_empty(rows * kv_heads, group, value_dim)
    for start, stop, width in row_spans:
        lanes = (stop - start) * kv_heads
        keys = key[start:stop, :, :width].reshape(lanes, width, head_dim)
        values = value[start:stop, :, :width].reshape(lanes, width, value_dim)
        scores = torch.bmm(query[start:stop].reshape(lanes, group, head_dim), keys.transpose(1, 2))
        if softcap is not None:
            scores.div_(softcap).tanh_().mul_(softcap)
        scores.view(stop - start, kv_heads, group, width).add_(attention_mask[start:stop, :, :, :width])
        torch.bmm(torch.softmax(scores, -1), values, out=output[start * kv_heads : stop * kv_heads])
    return output.view(rows, 1, heads, value_dim), None


AttentionInterface.register(ATTENTION, row_attention)


def _prefill(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    window: int | None,
    softcap: float | None,
) -> torch.Tensor:
    """Causal attention within prompts of the same padded length: `[n, L, heads, head_dim]`."""
    heads, length, head_dim = query.shape[1:]
    if softcap is not None:
        return _capped_prefill(query, key, value, scaling or head_dim**-0.5, window, softcap)
    mask = _window_mask(length, window, query) if window is not None and length > window else None
    output = F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=length > 1 and mask is None,
        scale=scaling,
        enable_gqa=heads != key.shape[1],
    )
    return output.transpose(1, 2).contiguous()


def _window_mask(length: int, window: int, like: torch.Tensor) -> torch.Tensor:
    """Which positions each token of a prompt may read under a sliding window: bool `[length, length]`."""
    positions = torch.arange(length, device=like.device)
    distance = positions[:, None] - positions
    return (distance >= 0) & (distance < window)


def _capped_prefill(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float, window: int | None, softcap: float
) -> torch.Tensor:
    """Causal attention with soft capping: `[n, L, heads, head_dim]`, in blocks of queries, for memory."""
    rows, heads, length, _ = query.shape
    key, value = (tensor.repeat_interleave(heads // key.shape[1], 1) for tensor in (key, value))
    output = query.new_empty(rows, length, heads, value.shape[3])
    allowed = _window_mask(length, window or length, query)
    for first in range(0, length, CAPPED_BLOCK):
        last = min(first + CAPPED_BLOCK, length)
        scores = (query[:, :, first:last] * scaling) @ key[:, :, :last].transpose(2, 3)
        scores.div_(softcap).tanh_().mul_(softcap).masked_fill_(~allowed[first:last, :last], float("-inf"))
        output[:, first:last] = (torch.softmax(scores, -1) @ value[:, :, :last]).transpose(1, 2)
    return output


def _resized(tensor: torch.Tensor, slots: int, width: int) -> torch.Tensor:
    resized = tensor.new_zeros(slots, tensor.shape[1], width, tensor.shape[3])
    kept = tensor[:slots, :, :width]
    resized[: kept.shape[0], :, : kept.shape[2]] = kept
    return resized
