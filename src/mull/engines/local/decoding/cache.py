"""A cache whose rows are independent of each other: keys and values, and states of convolutions and linear attention.

A slot holds one response. Each decode step writes one position per slot, which differs from slot to slot. So a new
response can take the slot of a finished one while the others continue. Knows no requests, no sampling and no λ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from transformers import Cache

from mull.engines.local.decoding.layout import Layout, Part


class PromptRows(NamedTuple):
    """Where the rows of a prefill go: slots int64 `[n]`, their lengths int64 `[n]`, and the padding before each.

    `starts` (int64 `[n]`) is None if the padding is behind the prompts.
    """

    slots: torch.Tensor
    lengths: torch.Tensor
    starts: torch.Tensor | None = None


class PromptRests(NamedTuple):
    """Rows whose prompts are cached but for their last L tokens: slots int64 `[n]`, positions int64 `[n, L]`."""

    slots: torch.Tensor
    positions: torch.Tensor
    width: int
    """Positions that the longest of them has, rounded up for attention."""


class RowCache(Cache):
    """The tensors of a `Layout` for `slots` rows of `width` positions; each slot is written at its own position.

    Keys and values are `[slots, kv_heads, w, head_dim]`. A layer with a sliding window keeps as many positions as its
    layout says: position p is in column p modulo that number, where it replaces one that no later token reads. States
    are `[slots, …]`. `resize` sets the size. New memory is filled with 0: masked positions are multiplied by 0, so they
    must be finite.
    """

    def __init__(self, layout: Layout) -> None:
        super().__init__(layers=[])
        self.layout = layout
        self.slots = 0
        self.width = 0
        self.states: dict[int, dict[str, torch.Tensor]] = {}
        """The tensors of each layer by the names of its parts."""
        self._prompts: PromptRows | None = None
        self._rests: PromptRests | None = None
        self._positions: torch.Tensor | None = None
        self._write_index: dict[tuple[int, int], torch.Tensor] = {}

    def resize(self, slots: int, width: int) -> None:
        """Changes the size to `slots` rows of `width` positions. What fits into the new size is kept.

        Layers are copied one at a time, so that at most one is in memory twice.
        """
        if (slots, width) == (self.slots, self.width):
            return
        self.slots, self.width = slots, width
        for layer, parts in self.layout.layers.items():
            old = self.states.get(layer, {})
            new = {name: self._resized(part, old.get(name)) for name, part in parts.items()}
            self.states[layer] = new

    def begin_prefill(self, prompts: PromptRows) -> None:
        """The next forward pass is over prompts, padded to one length, which start at position 0 of their slots."""
        self._prompts, self._rests = prompts, None

    def begin_rests(self, rests: PromptRests) -> None:
        """The next forward pass is over the last tokens of prompts."""
        self._prompts, self._rests = None, rests

    def begin_decode(self, positions: torch.Tensor) -> None:
        """The next forward pass is over one token for each of slots 0 … n−1, at `positions` (int64 `[n]`)."""
        self._prompts, self._rests, self._positions = None, None, positions
        self._write_index.clear()

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Stores `[n, kv_heads, L, head_dim]` and returns the keys and values that the attention reads.

        In a prefill these are the prompts' own, each from column 0, with those that were cached before.
        """
        keys, values = self.states[layer_idx]["keys"], self.states[layer_idx]["values"]
        if self._rests is not None:
            slots, positions, width = self._rests
            for cached, new in ((keys, key_states), (values, value_states)):
                cached[slots[:, None], :, positions] = new.transpose(1, 2)
            return keys[slots, :, :width], values[slots, :, :width]
        if self._prompts is not None:
            key_states, value_states = (shifted(new, self._prompts.starts) for new in (key_states, value_states))
            self._store_prompts(keys, key_states)
            self._store_prompts(values, value_states)
            return key_states, value_states
        index = self._decode_index(key_states.shape[1], keys.shape[2])
        for cached, new in ((keys, key_states), (values, value_states)):
            cached.view(-1, new.shape[3]).index_copy_(0, index, new.reshape(-1, new.shape[3]))
        return keys, values

    def get_conv_state(self, layer_idx: int, state_idx: int = 0) -> torch.Tensor | None:
        """The last inputs of a convolution `[n, channels, kernel]`, which the layer changes; None in a prefill."""
        return self._state(layer_idx, f"conv{state_idx}")

    def get_recurrent_state(self, layer_idx: int, state_idx: int = 0) -> torch.Tensor | None:
        """The state of a linear attention `[n, …]`, which the layer may change; None in a prefill."""
        return self._state(layer_idx, f"recurrent{state_idx}")

    def update_conv_state(
        self, conv_states: torch.Tensor, layer_idx: int, state_idx: int = 0, **kwargs: Any
    ) -> torch.Tensor:
        """Stores the last of the inputs `[n, channels, L]`; returns them behind those that were stored before."""
        kernel = self.states[layer_idx][f"conv{state_idx}"].shape[-1]
        before = self.get_conv_state(layer_idx, state_idx)
        if before is None:
            every = F.pad(conv_states, (max(0, kernel - conv_states.shape[-1]), 0))
        else:
            every = torch.cat([before, conv_states], -1)
        self._store_state(layer_idx, f"conv{state_idx}", every[..., -kernel:])
        return every

    def update_recurrent_state(
        self, recurrent_states: torch.Tensor, layer_idx: int, state_idx: int = 0, **kwargs: Any
    ) -> torch.Tensor:
        """Stores the states `[n, …]` after a forward pass, and returns them."""
        self._store_state(layer_idx, f"recurrent{state_idx}", recurrent_states)
        return recurrent_states

    def has_previous_state(self, layer_idx: int | None = None, state_idx: int | None = None) -> bool:
        """Whether the forward pass goes on from states."""
        return self._prompts is None

    def is_recording_past(self, layer_idx: int) -> bool:
        """Never: no token is taken back."""
        return False

    def clear_states(self, slots: torch.Tensor) -> None:
        """Sets the states of `slots` (int64 `[n]`) to those before the first token."""
        for part, tensor in self._tensors():
            if part.most is None:
                tensor[slots] = 0

    def copy_prompt(self, source: torch.Tensor, target: torch.Tensor, length: int) -> None:
        """Copies the first `length` positions and the states of slots `source` to slots `target` (both int64 `[n]`).

        The layout says whether a source still holds its prompt (`Layout.holds_prompt`).
        """
        for part, tensor in self._tensors():
            front = _front(part, tensor, length)
            front[target] = front[source]

    def copied(self, slot: int, length: int) -> list[torch.Tensor]:
        """Copies of the first `length` positions of a slot: `[kv_heads, length, head_dim]`, for `paste`."""
        return [_front(part, tensor, length)[slot].clone() for part, tensor in self._tensors()]

    def paste(self, slot: int, copies: Sequence[torch.Tensor], length: int) -> None:
        """Writes the first `length` positions of copies into a slot."""
        for (part, tensor), copy in zip(self._tensors(), copies, strict=True):
            _front(part, tensor, length)[slot] = copy[:, :length]

    def permute(self, order: torch.Tensor, width: int) -> None:
        """Slot i takes the states and first `width` positions of slot `order[i]` (int64 `[n]`, distinct), for i < n."""
        for part, tensor in self._tensors():
            front = _front(part, tensor, width)
            front[: len(order)] = front.index_select(0, order)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Always 0: rows have different lengths, so callers give positions and masks explicitly."""
        return 0

    def _tensors(self) -> Iterator[tuple[Part, torch.Tensor]]:
        for layer, tensors in self.states.items():
            for name, tensor in tensors.items():
                yield self.layout.layers[layer][name], tensor

    def _resized(self, part: Part, old: torch.Tensor | None) -> torch.Tensor:
        shape = (self.slots, *part.sized(self.width))
        if old is not None and old.shape == shape:
            return old
        new = torch.zeros(shape, dtype=part.dtype, device=self.layout.device)
        if old is not None:
            kept = _front(part, old[: self.slots], self.width)
            new[tuple(slice(size) for size in kept.shape)] = kept
        return new

    def _store_prompts(self, cached: torch.Tensor, new: torch.Tensor) -> None:
        """Stores keys or values `[n, kv_heads, L, head_dim]` of prompts, as many of the last ones as are kept."""
        assert self._prompts is not None
        length, size = new.shape[2], cached.shape[2]
        if length <= size:
            cached[self._prompts.slots, :, :length] = new
            return
        last = self._prompts.lengths[:, None] - 1
        # Columns that a short prompt does not fill take any finite value: they are masked.
        position = (last - (last - torch.arange(size, device=new.device)) % size).clamp_(min=0)
        cached[self._prompts.slots] = new.gather(2, position[:, None, :, None].expand(-1, *cached.shape[1:]))

    def _state(self, layer: int, name: str) -> torch.Tensor | None:
        if self._prompts is not None:
            return None
        assert self._positions is not None, "begin_decode comes before a decode forward"
        return self.states[layer][name][: len(self._positions)]

    def _store_state(self, layer: int, name: str, new: torch.Tensor) -> None:
        before = self._state(layer, name)
        if before is not None:
            before.copy_(new)
        elif self._prompts is not None:
            self.states[layer][name][self._prompts.slots] = new.to(self.layout.layers[layer][name].dtype)

    def _decode_index(self, kv_heads: int, size: int) -> torch.Tensor:
        """Indices of the new positions in a cache as `[slots·kv_heads·size, head_dim]`: int64 `[n·kv_heads]`."""
        index = self._write_index.get((kv_heads, size))
        if index is None:
            positions = self._positions
            assert positions is not None, "begin_decode comes before a decode forward"
            lanes = torch.arange(len(positions) * kv_heads, device=positions.device).view(-1, kv_heads)
            index = (lanes * size + positions[:, None] % size).view(-1)
            self._write_index[kv_heads, size] = index
        return index


def _front(part: Part, tensor: torch.Tensor, width: int) -> torch.Tensor:
    """The first `width` positions of keys or values `[slots, …]`; all of a state."""
    return tensor if part.most is None else tensor[:, :, :width]


def shifted(tensor: torch.Tensor, by: torch.Tensor | None) -> torch.Tensor:
    """`[n, heads, L, head_dim]` with row i moved `by[i]` positions to the left, the first ones to the end."""
    if by is None:
        return tensor
    columns = torch.arange(tensor.shape[2], device=tensor.device)
    index = (columns + by[:, None]) % tensor.shape[2]
    return tensor.gather(2, index[:, None, :, None].expand_as(tensor))
