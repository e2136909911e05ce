"""Continuous batching over a transformers model: when a row finishes, another one takes its slot.

The layers are the model's; this loop gives them a `RowCache`, positions and a mask. `admission.py` lets rows in and
has their prompts computed. Knows no λ, no tokenizer and no chat template.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch

from mull.engines.base import Request
from mull.engines.local.decoding.admission import Admission
from mull.engines.local.decoding.attention import Span, StepMask
from mull.engines.local.decoding.batch import Batch, round_up
from mull.engines.local.decoding.budget import ThoughtBudget
from mull.engines.local.decoding.layout import WIDTH_STEP, Layout
from mull.engines.local.decoding.rows import Finished, Lookahead
from mull.engines.local.decoding.sampler import Alternatives
from mull.errors import MullError

log = logging.getLogger(__name__)

SPAN_ROWS = 32
"""Rows that share one attention width."""
SORT_EVERY = 32
"""Decode steps after which the loop checks whether to sort the rows by length."""


class RowLoop:
    """Generates responses with `model`, at most `batch` at a time, with a cache of at most half of `free` bytes.

    All state of the run is in this object. A request's `max_tokens` is limited to what `context` leaves after its
    prompt, which must be shorter than `context`. If memory becomes short, young rows wait again (`Admission`), so a
    run always ends; `MullError` is raised if the oldest row alone exceeds `free`.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        *,
        batch: int,
        context: int,
        stop_ids: Iterable[int],
        device: torch.device,
        dtype: torch.dtype,
        layout: Layout,
        free: int,
        prefix_bytes: int | None = 0,
        row_step: int = 1,
        set_lams: Callable[[torch.Tensor], None] | None = None,
        on_token: OnToken | None = None,
        budget_of: Callable[[Request], ThoughtBudget | None] | None = None,
        alternatives_of: Callable[[Request], int] | None = None,
    ) -> None:
        """A decode step has a multiple of `row_step` rows, so that kernels sum in the same order (`same_bits`).
        `prefix_bytes`: the most memory, of the cache's, that keeps ended rows for prompts that begin as they did; None:
        as much as `Admission` allows. `set_lams` gives the rows of the next forward pass their λ, float32 `[n]`, in a
        model with a λ per row.
        `budget_of` gives the limit of a request's thought. `on_token` is called for each new token: its request, how
        many came before it, its id, its logprob, and the likeliest tokens in its place, as many as `alternatives_of`
        the request."""
        self._dtype = dtype
        self._stop_ids = np.array(sorted(stop_ids), np.int64)
        self._on_token = on_token
        self._batch = Batch(model, size=batch, device=device, layout=layout, row_step=row_step, set_lams=set_lams)
        self._admission = Admission(
            self._batch,
            context=context,
            free=free,
            prefix_bytes=prefix_bytes,
            budget_of=budget_of,
            alternatives_of=alternatives_of,
        )
        self._steps = 0

    def steps(self, waiting: Lookahead) -> Iterator[list[Finished]]:
        """Yields the rows that finished in a step, until no row is live or waiting."""
        began, responses, tokens = time.perf_counter(), 0, 0
        while self.busy(waiting):
            finished = self.advance(waiting)
            if finished:
                responses, tokens = responses + len(finished), tokens + sum(len(row.tokens) for row in finished)
                yield finished
        seconds = time.perf_counter() - began
        done = (responses, tokens, self._steps, self.size, seconds)
        log.debug("%d responses of %d tokens in %d steps of at most %d rows, %.1f s", *done)

    def busy(self, waiting: Lookahead) -> bool:
        """Whether a row is live or waiting."""
        return self._batch.slots.count > 0 or bool(waiting)

    def advance(self, waiting: Lookahead) -> list[Finished]:
        """Admits waiting requests to free slots, decodes one token for every live row, and returns finished rows."""
        slots, size = self._batch.slots, self._batch.size
        live = slots.count
        # A prefill has a fixed cost, so it waits until several slots are free.
        if waiting and (live == 0 or size - live >= max(1, size // 16)):
            self._admission.admit(waiting)
            live = slots.count
        if live == 0:
            return []
        self._arrange(live)
        self._admission.make_room(waiting, 0, slots.longest, slots.need)
        return self._step()

    @property
    def size(self) -> int:
        """The largest number of rows at once."""
        return self._batch.size

    @property
    def capacity(self) -> int:
        """Positions that there is memory for in a row, however many rows wait."""
        return self._admission.capacity

    def cancel(self, request: Request) -> Finished | None:
        """Ends `request` and frees its slot. Returns the response so far; None if no slot holds it."""
        rows = enumerate(self._batch.slots.rows)
        slot = next((slot for slot, row in rows if row and row.request is request), None)
        return None if slot is None else self._finish(slot, stopped=True)

    @torch.inference_mode()
    def _step(self) -> list[Finished]:
        """Decodes one token for every live row."""
        batch, slots, sampler = self._batch, self._batch.slots, self._batch.sampler
        count = round_up(slots.used, batch.row_step)
        spans = self._spans(count)
        positions = batch.tensor(slots.positions[:count])
        mask = StepMask(positions, max(span.width for span in spans), self._dtype)
        batch.cache.begin_decode(positions)
        logits = batch.forward(
            np.arange(count),
            input_ids=batch.tensor(slots.next_tokens[:count, None]),
            attention_mask=mask.causal,
            position_ids=positions[:, None],
            logits_to_keep=1,
            row_spans=spans,
            row_mask=mask,
        ).logits[:, -1]
        drawn, logprobs = sampler.draw(logits, slots.counts[:count], self._forced(count))
        wanted = {slot: row.alternatives for slot, row in enumerate(slots.rows) if row and row.alternatives}
        likeliest = sampler.likeliest(logits, wanted) if wanted else {}
        # One copy from the device for both: float32 holds ids below 2^24 exactly.
        tokens, logprobs = torch.stack([drawn.float(), logprobs]).cpu().numpy()
        self._steps += 1
        return self._record(count, tokens.astype(np.int64), logprobs, likeliest)

    def _record(
        self, count: int, tokens: np.ndarray, logprobs: np.ndarray, likeliest: dict[int, Alternatives]
    ) -> list[Finished]:
        """Stores the step's tokens; removes and returns finished rows."""
        slots = self._batch.slots
        live = slots.live[:count]
        if not np.isfinite(logprobs[live]).all():
            raise MullError("the model's logits are not numbers", "look for NaN in the weights with `mull inspect`")
        if self._on_token is not None:
            for slot in np.flatnonzero(live).tolist():
                found = (int(slots.counts[slot]), int(tokens[slot]), float(logprobs[slot]), likeliest.get(slot, ()))
                self._on_token(slots.row(slot).request, *found)
        for slot, row in enumerate(slots.rows[:count]):
            if row is not None and row.budget is not None:
                row.budget.push(int(tokens[slot]))
        slots.push(tokens, logprobs)
        stopped = np.isin(tokens, self._stop_ids)
        done = np.flatnonzero(live & (stopped | (slots.counts[:count] >= slots.limits[:count])))
        return [self._finish(slot, stopped=bool(stopped[slot])) for slot in done.tolist()]

    def _finish(self, slot: int, *, stopped: bool) -> Finished:
        """Takes the row out of `slot`."""
        row = self._batch.slots.row(slot)
        forced = row.budget is not None and row.budget.used
        tokens, logprobs = self._batch.slots.response(slot)
        self._admission.keep(slot)
        self._batch.clear(slot)
        return Finished(row.request, tokens, logprobs, stopped, time.perf_counter() - row.started, forced, row.cached)

    def _forced(self, count: int) -> dict[int, int]:
        """Slot → the token that its thinking budget puts in place of the drawn one."""
        found = {}
        for slot, row in enumerate(self._batch.slots.rows[:count]):
            if row is not None and row.budget is not None and row.budget.forced is not None:
                found[slot] = row.budget.forced
        return found

    def _spans(self, count: int) -> list[Span]:
        """Divides the slots into runs of neighbours that read the same number of positions."""
        step = SPAN_ROWS if self._batch.device.type == "cpu" else count
        starts = range(0, count, step)
        ends = [min(start + step, count) for start in starts]
        positions = self._batch.slots.positions
        lengths = [int(positions[start:end].max()) + 1 for start, end in zip(starts, ends, strict=True)]
        widths = [round_up(length, WIDTH_STEP) for length in lengths]
        return [Span(*bounds) for bounds in zip(starts, ends, widths, strict=True)]

    def _arrange(self, live: int) -> None:
        """Moves the rows to the lowest slots, longest first, if that saves enough rows or attention width."""
        slots = self._batch.slots
        used = round_up(slots.used, self._batch.row_step)
        packed = round_up(live, self._batch.row_step)
        shrinks = packed <= used * 3 // 4
        if not shrinks and self._steps % SORT_EVERY:
            return
        order = slots.by_length(used)
        if not shrinks:
            positions = slots.positions[:used]
            cost, sorted_cost = (
                sum(int(lengths[start : start + SPAN_ROWS].max()) for start in range(0, used, SPAN_ROWS))
                for lengths in (positions, positions[order])
            )
            if cost - sorted_cost < 0.1 * cost:
                return
        self._batch.reorder(order)


OnToken = Callable[[Request, int, int, float, Alternatives], None]
