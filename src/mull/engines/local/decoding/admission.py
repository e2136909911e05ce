"""Which waiting requests get a slot, within the memory there is, and which rows must give theirs back.

The length of a response is not known in advance, and few reach their `max_tokens`. So a row is admitted if there is
memory for its present length and some growth. When the cache becomes too large later, the rows with the fewest
tokens go back to the queue and start again later; with the same seed they get the same text. The oldest row is
never sent back, so a run always ends. Beginnings of texts are kept for later prompts in memory that no row needs.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from mull.engines.base import Request
from mull.engines.local.decoding.batch import Batch, round_up
from mull.engines.local.decoding.budget import RowBudget, ThoughtBudget
from mull.engines.local.decoding.layout import WIDTH_STEP
from mull.engines.local.decoding.prefill import Prefill
from mull.engines.local.decoding.prefixes import Prefixes
from mull.engines.local.decoding.rows import LiveRow, Lookahead
from mull.engines.memory import memory_errors
from mull.errors import MullError

GROWTH = 256
"""Free positions that each row should at least have when memory is allocated."""
PREFIX_SHARE = 0.25
"""Largest share of the cache's memory that is kept for later prompts."""


class Admission:
    """Admits requests to a `Batch`, whose cache takes at most half of `free` bytes.

    Only a cache with the smallest possible number of rows may exceed that half; `MullError` is raised if it exceeds
    `free`. The half holds kept prefixes, too: they take at most `PREFIX_SHARE` of it, and at most `prefix_bytes`, and
    are thrown out before a request has to wait. `budget_of` and `alternatives_of`: what a request's thought may have,
    and how many alternatives it wants.
    """

    def __init__(
        self,
        batch: Batch,
        *,
        context: int,
        free: int,
        prefix_bytes: int | None,
        budget_of: Callable[[Request], ThoughtBudget | None] | None,
        alternatives_of: Callable[[Request], int] | None,
    ) -> None:
        self._batch, self._context = batch, context
        self._free, self._budget = free, free // 2
        self._budget_of, self._alternatives_of = budget_of, alternatives_of
        most = int(self._budget * PREFIX_SHARE)
        self._prefixes = Prefixes(batch.layout, most if prefix_bytes is None else min(most, prefix_bytes))
        self._prefill = Prefill(batch, self._prefixes)

    @property
    def capacity(self) -> int:
        """Positions that there is memory for in a row, however many rows wait."""
        return self._batch.layout.width_within(self._free // self._batch.row_step) // WIDTH_STEP * WIDTH_STEP

    @torch.inference_mode()
    def admit(self, waiting: Lookahead) -> None:
        """Fills free slots with waiting requests and prefills them."""
        slots, row_step, live = self._batch.slots, self._batch.row_step, self._batch.slots.count
        started = time.perf_counter()
        chosen: list[tuple[Request, int]] = []
        longest, need = slots.longest, slots.need
        while waiting and live + len(chosen) < self._batch.size:
            request = waiting.first()
            length = len(request.prompt_ids)
            limit = min(request.sampling.max_tokens, self._context - length)
            new_longest, new_need = max(longest, length), max(need, length + limit)
            width = min(max(new_longest + GROWTH, new_longest * 3 // 2), new_need)
            rows = round_up(live + len(chosen) + 1, row_step)
            if rows > row_step and self._bytes(rows, round_up(width, WIDTH_STEP)) > self._budget:
                break
            chosen.append((waiting.pop(), limit))
            longest, need = new_longest, new_need
        if not chosen:
            return
        self.make_room(waiting, len(chosen), longest, need)
        sources = self._prefill.sources()
        new_slots = slots.free(len(chosen))
        for slot, (request, limit) in zip(new_slots, chosen, strict=True):
            budget = self._budget_of(request) if self._budget_of else None
            alternatives = self._alternatives_of(request) if self._alternatives_of else 0
            slots.fill(slot, LiveRow(request, started, RowBudget(budget) if budget else None, alternatives), limit)
            self._batch.sampler.set(slot, request.sampling, request.seed)
        self._prefill.fill(new_slots, sources)

    @torch.inference_mode()
    def make_room(self, waiting: Lookahead, fresh: int, longest: int, need: int) -> None:
        """Resizes the cache for the live rows and `fresh` new ones: `longest` positions now, at most `need` later.

        If memory is short, gaps between rows are closed; then the youngest rows go back to `waiting`.
        """
        batch, cache, layout, row_step = self._batch, self._batch.cache, self._batch.layout, self._batch.row_step
        live = batch.slots.count
        slots = round_up(max(batch.slots.used, live + fresh), row_step)
        width = round_up(longest, WIDTH_STEP)
        if slots <= cache.slots and width <= cache.width:
            return
        if self._bytes(slots, width) > self._budget:
            slots = round_up(live + fresh, row_step)
            if self._bytes(slots, width) > self._budget:
                grown = round_up(min(longest + GROWTH, need), WIDTH_STEP)
                fitting = max(row_step, self._rows_within(self._budget, grown))
                self._send_back(waiting, live + fresh - fitting)
                slots = round_up(batch.slots.count + fresh, row_step)
            batch.reorder(batch.slots.by_length(batch.slots.used))
        if self._bytes(slots, width) > self._free:
            row = batch.slots.rows[int(batch.slots.positions.argmax())]
            name = f"request {row.request.id!r}" if row and not fresh else "a prompt"
            most = layout.width_within(self._free // slots)
            raise MullError(
                f"the key/value cache has outgrown the free memory of {batch.device}: {name} has reached {longest:,} "
                f"tokens, and there is room for {most:,} in each of {slots} rows",
                "Lower --max-tokens, or free memory",
            )
        larger = cache.width
        if width > larger:
            larger = max(width, min(larger * 3 // 2, need))
        self._prefixes.shrink(self._budget - self._bytes(slots, width))
        left = self._budget - self._prefixes.bytes
        room = layout.width_within(left // slots) // WIDTH_STEP * WIDTH_STEP
        width = max(width, min(round_up(larger, WIDTH_STEP), room))
        spare = self._rows_within(left, width)
        cache.resize(max(slots, min(cache.slots, spare)), width)

    @torch.inference_mode()
    def keep(self, slot: int) -> None:
        """Keeps what the row of `slot` leaves in the cache for later prompts, before the row goes."""
        request = self._batch.slots.row(slot).request
        # Without a λ of its own a row has the engine's weights, which may be others for the next one.
        if request.lam is None or self._prefixes.most == 0:
            return
        try:
            with memory_errors("while a text was kept", ""):
                self._copy(slot, request, request.lam)
        except MullError:  # the row has ended well; what cannot be kept must harm no response
            self._prefixes.clear()

    def _copy(self, slot: int, request: Request, lam: float) -> None:
        batch, cache, slots = self._batch, self._batch.cache, self._batch.slots
        length = int(slots.positions[slot])
        wanted, used = self._prefixes.wanted(length), round_up(slots.used, batch.row_step)
        if self._bytes(cache.slots, cache.width) + wanted > self._budget and 2 * used <= cache.slots:
            cache.resize(used, cache.width)  # many more rows had been live before
        room = self._budget - self._bytes(cache.slots, cache.width)
        tokens = np.concatenate([request.prompt_ids, slots.response(slot)[0]])[:length]
        self._prefixes.add(lam, tokens, len(request.prompt_ids), cache, slot, room)

    def _bytes(self, slots: int, width: int) -> int:
        return slots * self._batch.layout.row_bytes(width)

    def _rows_within(self, size: int, width: int) -> int:
        """How many rows of `width` positions take no more than `size` bytes, as a multiple of the row step."""
        return size // self._batch.layout.row_bytes(width) // self._batch.row_step * self._batch.row_step

    def _send_back(self, waiting: Lookahead, count: int) -> None:
        """Puts the `count` rows with the fewest tokens back into the queue; they start again from the beginning."""
        for slot in self._batch.slots.youngest(count):
            waiting.put_back(self._batch.slots.row(slot).request)
            self._batch.clear(slot)
