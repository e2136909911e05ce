"""Keys and values of rows that have ended, kept for prompts that begin as those rows did: the turns of a conversation.

They are those of one λ, so only prompts of exactly this λ get them. Knows no queue and no slots in use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mull.engines.local.decoding.cache import RowCache
from mull.engines.local.decoding.layout import Layout

LEAST = 32
"""Tokens that are worth keeping, and worth taking: fewer are computed as fast."""
MOST_KEPT = 256
"""Texts kept at the same time."""
OPENING = 8
"""Last tokens of a prompt that need not come again in the next turn: what a template writes before a response."""


@dataclass
class Prefix:
    """The beginning of a text at one λ."""

    lam: float
    tokens: np.ndarray
    """int64 `[T]`"""
    prompt: int
    """How many of them are the prompt; the others are its response."""
    tensors: Sequence[torch.Tensor]
    """`[kv_heads, T, head_dim]`, in the order of the cache's."""

    def cut(self, length: int) -> None:
        """Keeps the first `length` tokens."""
        self.tokens = self.tokens[:length]
        self.tensors = [tensor[:, :length].clone() for tensor in self.tensors]


class Prefixes:
    """Kept texts of at most `most` bytes. Nothing is kept for a layout of which a text cannot be cut back."""

    def __init__(self, layout: Layout, most: int) -> None:
        self.most = most if layout.whole else 0
        self.bytes = 0
        self._token_bytes = sum(part.bytes(1) for parts in layout.layers.values() for part in parts.values())
        self._kept: list[Prefix] = []
        """The one used last is the last."""

    def wanted(self, length: int) -> int:
        """Bytes of all that is kept once `length` tokens have been added."""
        return min(self.most, self.bytes + length * self._token_bytes)

    def find(self, lam: float | None, tokens: np.ndarray) -> tuple[Prefix | None, int]:
        """The kept text that has most of its first tokens in common with `tokens`, and how many these are."""
        common = [_common(kept.tokens, tokens) if kept.lam == lam else 0 for kept in self._kept]
        length = max(common, default=0)
        if length < LEAST:
            return None, 0
        found = self._kept.pop(common.index(length))
        self._kept.append(found)
        return found, length

    def add(self, lam: float, tokens: np.ndarray, prompt: int, cache: RowCache, slot: int, room: int) -> None:
        """Keeps the text in a slot of `cache`, or as much of its beginning as fits into `room` bytes.

        It replaces those whose prompts it holds, but for what the template writes at their end.
        """
        room = min(room, self.most)
        tokens = tokens[: max(0, room) // self._token_bytes]
        if len(tokens) < LEAST:
            return
        self._kept = [
            kept
            for kept in self._kept
            if kept.lam != lam or _common(kept.tokens, tokens) < max(LEAST, kept.prompt - OPENING)
        ]
        self._count()
        self.shrink(room - len(tokens) * self._token_bytes)
        self._kept = self._kept[1 - MOST_KEPT :]
        self._kept.append(Prefix(lam, tokens, min(max(prompt, LEAST), len(tokens)), cache.copied(slot, len(tokens))))
        self._count()

    def shrink(self, most: int) -> None:
        """Frees memory until `most` bytes are left in use: first responses, then whole texts, from the one used longest
        ago. (Most templates leave the thought of a response out of later prompts.)"""
        if most <= 0:
            self.clear()
        for kept in self._kept:
            if self.bytes > most and kept.prompt < len(kept.tokens):
                kept.cut(kept.prompt)
                self._count()
        while self._kept and self.bytes > most:
            del self._kept[0]
            self._count()

    def clear(self) -> None:
        """Frees all memory."""
        self._kept, self.bytes = [], 0

    def _count(self) -> None:
        self.bytes = self._token_bytes * sum(len(kept.tokens) for kept in self._kept)


def _common(one: np.ndarray, other: np.ndarray) -> int:
    """How many first tokens are the same."""
    length = min(len(one), len(other))
    different = np.flatnonzero(one[:length] != other[:length])
    return int(different[0]) if len(different) else length
