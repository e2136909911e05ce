"""The live rows of a loop, each in a slot: its request, its tokens so far, its limit.

Knows no model, no cache and no memory; code that uses the device is in `batch.py` and above it.
"""

from __future__ import annotations

import numpy as np

from mull.engines.local.decoding.rows import LiveRow


class Slots:
    """`size` slots for rows. Their state is in arrays `[size]`, for use by vectorised code; 0 in empty slots."""

    def __init__(self, size: int) -> None:
        self.rows: list[LiveRow | None] = [None] * size
        self.live = np.zeros(size, bool)
        self.next_tokens = np.zeros(size, np.int64)
        """The token that each row's next step takes in."""
        self.positions = np.zeros(size, np.int64)
        """The position of that token in the whole text, prompt included."""
        self.counts = np.zeros(size, np.int64)
        """Number of tokens generated so far."""
        self.limits = np.zeros(size, np.int64)
        """The largest number of tokens that may be generated."""
        self.lams = np.zeros(size, np.float32)
        """λ of each row, where rows have one of their own."""
        self._tokens = np.zeros((size, 64), np.int64)
        self._logprobs = np.zeros((size, 64), np.float32)

    @property
    def count(self) -> int:
        """Number of live rows."""
        return int(self.live.sum())

    @property
    def used(self) -> int:
        """Number of slots up to and including the last live one."""
        return int(np.flatnonzero(self.live)[-1]) + 1 if self.live.any() else 0

    @property
    def longest(self) -> int:
        """Number of positions that the longest row uses now."""
        return int(self.positions.max()) + 1

    @property
    def need(self) -> int:
        """Largest number of positions that a live row can use: its prompt and all tokens it may generate."""
        return int((self.positions - self.counts + self.limits).max()) + 1

    def row(self, slot: int) -> LiveRow:
        """The row of `slot`, which must be live."""
        row = self.rows[slot]
        assert row is not None
        return row

    def free(self, count: int) -> list[int]:
        """The first `count` empty slots."""
        return np.flatnonzero(~self.live)[:count].tolist()

    def youngest(self, count: int) -> list[int]:
        """The slots of the `count` live rows with the fewest tokens."""
        counts = np.where(self.live, self.counts, np.iinfo(np.int64).max)
        return np.argsort(counts, kind="stable")[: max(0, count)].tolist()

    def by_length(self, used: int) -> np.ndarray:
        """The first `used` slots, longest row first, empty ones last: int64 `[used]`."""
        return np.argsort(np.where(self.live[:used], -self.positions[:used], 1), kind="stable")

    def fill(self, slot: int, row: LiveRow, limit: int) -> None:
        """Put `row` in `slot`. Its first step takes the last token of its prompt."""
        prompt = row.request.prompt_ids
        self.rows[slot] = row
        self.next_tokens[slot], self.positions[slot] = prompt[-1], len(prompt) - 1
        self.counts[slot], self.limits[slot], self.live[slot] = 0, limit, True
        self.lams[slot] = row.request.lam or 0.0

    def clear(self, slot: int) -> None:
        """Mark `slot` as empty."""
        self.rows[slot] = None
        self.live[slot] = False
        for array in (self.next_tokens, self.positions, self.counts, self.limits, self.lams):
            array[slot] = 0

    def permute(self, order: np.ndarray) -> None:
        """Slot i takes the row of slot `order[i]`, for all i < len(order)."""
        used = len(order)
        for array in (self.next_tokens, self.positions, self.counts, self.limits, self.lams, self.live):
            array[:used] = array[order]
        self._tokens[:used], self._logprobs[:used] = self._tokens[order], self._logprobs[order]
        self.rows[:used] = [self.rows[slot] for slot in order]

    def push(self, tokens: np.ndarray, logprobs: np.ndarray) -> None:
        """Add one token to each live row in the first `len(tokens)` slots."""
        count = len(tokens)
        live, counts = self.live[:count], self.counts[:count]
        if counts.max() >= self._tokens.shape[1]:
            self._tokens = np.concatenate([self._tokens, np.zeros_like(self._tokens)], 1)
            self._logprobs = np.concatenate([self._logprobs, np.zeros_like(self._logprobs)], 1)
        rows = np.arange(count)
        self._tokens[rows, counts] = tokens
        self._logprobs[rows, counts] = logprobs
        counts += live
        self.positions[:count] += live
        self.next_tokens[:count] = np.where(live, tokens, 0)

    def response(self, slot: int) -> tuple[np.ndarray, np.ndarray]:
        """Copies of the tokens int64 `[T]` and logprobs float32 `[T]` of a row."""
        length = self.counts[slot]
        return self._tokens[slot, :length].copy(), self._logprobs[slot, :length].copy()
