"""The attention function that reads a row cache.

It is registered with transformers under the name `ATTENTION`; a model uses it as its attention implementation, and its
layers are otherwise those of transformers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from transformers import AttentionInterface

from mull.engines.local.decoding.cache import shifted

ATTENTION = "mull_rows"
"""Name of `row_attention` among transformers' attention implementations."""

REST_BLOCK = 512
"""Queries that are computed at a time where part of a prompt is cached, for memory."""
CAPPED_BLOCK = 128
"""Queries of a prompt that are computed at a time where scores are capped, which torch's own attention cannot do."""


class Span(NamedTuple):
    """Neighbouring slots that read the same number of positions."""

    start: int
    stop: int
    width: int
    """Positions read, a multiple of `WIDTH_STEP`."""


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
        self._windowed: dict[tuple[int, int], torch.Tensor] = {}

    def for_window(self, window: int | None, size: int) -> torch.Tensor:
        """The mask of a layer with this sliding window, of which the cache keeps `size` positions; None = without one.

        Position p stands in column p modulo `size`.
        """
        if window is None:
            return self.causal
        if (window, size) not in self._windowed:
            distance = (self._positions[:, None] - self._cached[:size]) % size
            allowed = (distance < window) & (distance <= self._positions[:, None])
            mask = torch.zeros_like(self.causal[..., :size])
            self._windowed[window, size] = mask.masked_fill_(~allowed[:, None, None], float("-inf"))
        return self._windowed[window, size]


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
    row_starts: torch.Tensor | None = None,
    row_positions: torch.Tensor | None = None,
    row_windows: dict[int, int] | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of a prefill (causal within each prompt), of the last tokens of prompts whose others are cached (with
    `row_positions`), or of a decode step over a `RowCache` (with `row_mask`).

    `query` `[n, heads, L, head_dim]`, `key` and `value` `[slots, kv_heads, W, head_dim]`; decode needs L = 1 and a
    `row_mask`. In a prefill, `row_spans` are rows of the same padded length; what is behind a row's is 0 in the result.
    Returns `[n, L, heads, head_dim]`. The heads that share a key/value head are the rows of one small
    matrix, so that keys and values are not repeated.

    `row_positions` (int64 `[n, L]`): those of the queries; keys and values are of all positions.
    `row_starts` (int64 `[n]`): the padding before each prompt in `query`; keys and values have it at their end.
    `row_windows`: the layer's sliding window is noted there. `softcap` c limits scores s to c·tanh(s/c), as Gemma 2
    does. Raises `NotImplementedError` for attention sinks and position biases.
    """
    for option in ("s_aux", "position_bias"):
        if kwargs.get(option) is not None:
            raise NotImplementedError(f"attention with {option}")
    if row_windows is not None and sliding_window is not None:
        row_windows[module.layer_idx] = sliding_window  # type: ignore[index]
    rows, heads, length, head_dim = query.shape
    kv_heads = key.shape[1]
    if row_positions is not None:
        if sliding_window is not None:
            raise NotImplementedError("a sliding window over a cached prompt")
        return _rest(query, key, value, scaling, row_positions, softcap).transpose(1, 2).contiguous(), None
    if row_mask is None:
        query = shifted(query, row_starts)
        spans = row_spans or [Span(0, rows, length)]
        if len(spans) == 1 and spans[0].width == length:
            output = _prefill(query, key, value, scaling, sliding_window, softcap)
        else:
            output = query.new_zeros(rows, heads, length, value.shape[3])
            for start, stop, width in spans:
                queries, keys, values = (tensor[start:stop, :, :width] for tensor in (query, key, value))
                output[start:stop, :, :width] = _prefill(queries, keys, values, scaling, sliding_window, softcap)
        output = shifted(output, None if row_starts is None else -row_starts)
        return output.transpose(1, 2).contiguous(), None
    assert row_spans is not None and length == 1
    attention_mask = row_mask.for_window(sliding_window, key.shape[2])
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
    for start, stop, longest in row_spans:
        lanes, width = (stop - start) * kv_heads, min(longest, key.shape[2])
        keys = key[start:stop, :, :width].reshape(lanes, width, head_dim)
        values = value[start:stop, :, :width].reshape(lanes, width, value_dim)
        scores = torch.bmm(query[start:stop].reshape(lanes, group, head_dim), keys.transpose(1, 2))
        if softcap is not None:
            scores.div_(softcap).tanh_().mul_(softcap)
        scores.view(stop - start, kv_heads, group, width).add_(attention_mask[start:stop, :, :, :width])
        torch.bmm(torch.softmax(scores, -1), values, out=output[start * kv_heads : stop * kv_heads])
    return output.view(rows, 1, heads, value_dim), None


AttentionInterface.register(ATTENTION, row_attention)


def _window_mask(length: int, window: int, like: torch.Tensor) -> torch.Tensor:
    """Which positions each token of a prompt may read under a sliding window: bool `[length, length]`."""
    positions = torch.arange(length, device=like.device)
    distance = positions[:, None] - positions
    return (distance >= 0) & (distance < window)


def _prefill(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    window: int | None,
    softcap: float | None,
) -> torch.Tensor:
    """Causal attention within prompts of the same padded length: `[n, heads, L, head_dim]`."""
    if softcap is not None:
        return _capped_prefill(query, key, value, scaling or query.shape[3] ** -0.5, window, softcap)
    length = query.shape[2]
    mask = _window_mask(length, window, query) if window is not None and length > window else None
    return F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=length > 1 and mask is None,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def _rest(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    positions: torch.Tensor,
    softcap: float | None,
) -> torch.Tensor:
    """Attention of tokens at `positions` to all that come before them: `[n, heads, L, head_dim]`.

    As in a decode step, the heads that share a key/value head are the rows of one matrix.
    """
    rows, heads, length, head_dim = query.shape
    kv_heads, columns = key.shape[1], torch.arange(key.shape[2], device=key.device)
    output = query.new_empty(rows, heads, length, value.shape[3])
    for first in range(0, length, REST_BLOCK):
        last = min(first + REST_BLOCK, length)
        queries = query[:, :, first:last].reshape(rows, kv_heads, -1, head_dim)
        allowed = (columns <= positions[:, None, first:last, None]).repeat(1, 1, heads // kv_heads, 1)
        if softcap is None:
            found = F.scaled_dot_product_attention(queries, key, value, attn_mask=allowed, scale=scaling)
        else:
            found = _capped(queries, key, value, scaling or head_dim**-0.5, allowed, softcap)
        output[:, :, first:last] = found.view(rows, heads, last - first, -1)
    return output


def _capped_prefill(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float, window: int | None, softcap: float
) -> torch.Tensor:
    """The same as `_prefill` with soft capping, in blocks of queries, for memory."""
    rows, heads, length, _ = query.shape
    key, value = (tensor.repeat_interleave(heads // key.shape[1], 1) for tensor in (key, value))
    output = query.new_empty(rows, heads, length, value.shape[3])
    allowed = _window_mask(length, window or length, query)
    for first in range(0, length, CAPPED_BLOCK):
        last = min(first + CAPPED_BLOCK, length)
        keys, values, mask = key[:, :, :last], value[:, :, :last], allowed[first:last, :last]
        output[:, :, first:last] = _capped(query[:, :, first:last], keys, values, scaling, mask, softcap)
    return output


def _capped(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float,
    allowed: torch.Tensor,
    softcap: float,
) -> torch.Tensor:
    """Attention to the positions that are `allowed` (bool), with soft capping."""
    scores = (query * scaling) @ key.transpose(2, 3)
    scores.div_(softcap).tanh_().mul_(softcap).masked_fill_(~allowed, float("-inf"))
    return torch.softmax(scores, -1) @ value
