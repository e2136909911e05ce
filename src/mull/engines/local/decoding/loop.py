"""Continuous batching over a transformers model: when a row finishes, another one takes its slot.

The layers are the model's; this loop gives them a `RowCache`, positions and a mask. The prefill computes keys and
values of a prompt except for its last token, which is the row's first decode step, so that all tokens of a response
are computed by the same code. Rows with the same prompt share one prefill. Knows no λ, no tokenizer and no chat
template.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any

import numpy as np
import torch

from mull.engines.base import Request
from mull.engines.local.decoding.budget import RowBudget, ThoughtBudget
from mull.engines.local.decoding.cache import WIDTH_STEP, RowCache, Span, StepMask
from mull.engines.local.decoding.rows import Finished, LiveRow, Lookahead
from mull.engines.local.decoding.sampler import RowSampler
from mull.engines.local.decoding.slots import Slots
from mull.errors import MullError

SLOT_STEP = 8
"""On CPU a decode step has a multiple of this many rows. With fewer, kernels are used that sum in another order."""
PROMPT_STEP = 16
"""Prompts are padded to a multiple of this many tokens in a prefill, for the same reason."""
PREFILL_TOKENS = 8192
"""Most padded tokens per forward pass of a prefill, unless one prompt alone is longer."""
SPAN_ROWS = 32
"""Rows that share one attention width."""
GROWTH = 256
"""Free positions that each row should at least have when memory is allocated."""
SORT_EVERY = 32
"""Decode steps after which the loop checks whether to sort the rows by length."""


class RowLoop:
    """Generates responses with `model`, at most `batch` at a time, with a cache of at most half of `free` bytes.

    All state of the run is in this object. A request's `max_tokens` is limited to what `context` leaves after its
    prompt, which must be shorter than `context`.

    The length of a response is not known in advance, and few reach their `max_tokens`. So a row is admitted if there is
    memory for its present length and some growth. When the cache becomes too large later, the rows with the fewest
    tokens go back to the queue and start again later; with the same seed they get the same text. The oldest row is
    never sent back, so a run always ends. Only a cache with the smallest possible number of rows may exceed half of
    `free`; `MullError` is raised if it exceeds `free`.
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
        bytes_per_position: int,
        free: int,
        set_lams: Callable[[torch.Tensor], None] | None = None,
        on_token: Callable[[Request, int, int, float], None] | None = None,
        budget_of: Callable[[Request], ThoughtBudget | None] | None = None,
    ) -> None:
        """`set_lams` gives the rows of the next forward pass their λ, float32 `[n]`, in a model with a λ per row.
        `budget_of` gives the limit of a request's thought. `on_token` is called for each new token: its request, how
        many came before it, its id and its logprob."""
        self.model, self.context, self.device, self.dtype = model, context, device, dtype
        self.batch = batch
        self._free = free // bytes_per_position
        self._budget = self._free // 2
        """`_free` and `_budget` count positions, summed over all slots."""
        self._stop_ids = np.array(sorted(stop_ids), np.int64)
        self._slot_step = SLOT_STEP if device.type == "cpu" else 1
        slots = _round_up(batch, self._slot_step)
        self._slots = Slots(slots)
        self._cache = RowCache()
        self._sampler = RowSampler(slots, device)
        self._set_lams, self._on_token, self._budget_of = set_lams, on_token, budget_of
        self._steps = 0

    def steps(self, waiting: Lookahead) -> Iterator[list[Finished]]:
        """Yields the rows that finished in a step, until no row is live or waiting."""
        while self.busy(waiting):
            finished = self.advance(waiting)
            if finished:
                yield finished

    def busy(self, waiting: Lookahead) -> bool:
        """Whether a row is live or waiting."""
        return self._slots.count > 0 or bool(waiting)

    def advance(self, waiting: Lookahead) -> list[Finished]:
        """Admits waiting requests to free slots, decodes one token for every live row, and returns finished rows."""
        live = self._slots.count
        # A prefill has a fixed cost, so it waits until several slots are free.
        if waiting and (live == 0 or self.batch - live >= max(1, self.batch // 16)):
            self._admit(waiting, live)
            live = self._slots.count
        if live == 0:
            return []
        self._arrange(live)
        self._make_room(waiting, 0, self._slots.longest, self._slots.need)
        return self._step()

    def cancel(self, request: Request) -> bool:
        """Frees the slot of `request`; False if no slot holds it."""
        slot = next((slot for slot, row in enumerate(self._slots.rows) if row and row.request is request), None)
        if slot is None:
            return False
        self._clear(slot)
        return True

    @torch.inference_mode()
    def _admit(self, waiting: Lookahead, live: int) -> None:
        """Fills free slots with waiting requests and prefills them."""
        started = time.perf_counter()
        chosen: list[tuple[Request, int]] = []
        longest, need = self._slots.longest, self._slots.need
        while waiting and live + len(chosen) < self.batch:
            request = waiting.first()
            length = len(request.prompt_ids)
            limit = min(request.sampling.max_tokens, self.context - length)
            new_longest, new_need = max(longest, length), max(need, length + limit)
            width = min(max(new_longest + GROWTH, new_longest * 3 // 2), new_need)
            slots = _round_up(live + len(chosen) + 1, self._slot_step)
            if slots > self._slot_step and slots * _round_up(width, WIDTH_STEP) > self._budget:
                break
            chosen.append((waiting.pop(), limit))
            longest, need = new_longest, new_need
        if not chosen:
            return
        self._make_room(waiting, len(chosen), longest, need)
        slot_of_prompt = {_shared(row.request): slot for slot, row in enumerate(self._slots.rows) if row is not None}
        new_slots = self._slots.free(len(chosen))
        for slot, (request, limit) in zip(new_slots, chosen, strict=True):
            budget = self._budget_of(request) if self._budget_of else None
            self._slots.fill(slot, LiveRow(request, started, RowBudget(budget) if budget else None), limit)
            self._sampler.set(slot, request.sampling, request.seed)
        self._prefill(new_slots, slot_of_prompt)

    @torch.inference_mode()
    def _make_room(self, waiting: Lookahead, fresh: int, longest: int, need: int) -> None:
        """Resizes the cache for the live rows and `fresh` new ones: `longest` positions now, at most `need` later.

        If memory is short, gaps between rows are closed; then the youngest rows go back to `waiting`.
        """
        live = self._slots.count
        slots = _round_up(max(self._slots.used, live + fresh), self._slot_step)
        width = _round_up(longest, WIDTH_STEP)
        if slots <= self._cache.slots and width <= self._cache.width:
            return
        if slots * width > self._budget:
            slots = _round_up(live + fresh, self._slot_step)
            if slots * width > self._budget:
                grown = _round_up(min(longest + GROWTH, need), WIDTH_STEP)
                fitting = max(self._slot_step, self._budget // grown // self._slot_step * self._slot_step)
                self._send_back(waiting, live + fresh - fitting)
                slots = _round_up(self._slots.count + fresh, self._slot_step)
            self._reorder(self._slots.by_length(self._slots.used))
        if slots * width > self._free:
            row = self._slots.rows[int(self._slots.positions.argmax())]
            name = f"request {row.request.id!r}" if row and not fresh else "a prompt"
            raise MullError(
                f"the key/value cache has outgrown the free memory of {self.device}: {name} has reached {longest:,} "
                f"tokens, and there is room for {self._free // slots:,} in each of {slots} rows",
                "Lower --max-tokens, or free memory",
            )
        larger = self._cache.width
        if width > larger:
            larger = max(width, min(larger * 3 // 2, need))
        room = self._budget // slots // WIDTH_STEP * WIDTH_STEP
        width = max(width, min(_round_up(larger, WIDTH_STEP), room))
        spare = self._budget // width // self._slot_step * self._slot_step
        self._cache.resize(max(slots, min(self._cache.slots, spare)), width)

    def _send_back(self, waiting: Lookahead, count: int) -> None:
        """Puts the `count` rows with the fewest tokens back into the queue; they start again from the beginning."""
        for slot in self._slots.youngest(count):
            waiting.put_back(self._slots.row(slot).request)
            self._clear(slot)

    def _clear(self, slot: int) -> None:
        """Empties `slot`."""
        self._slots.clear(slot)
        self._sampler.clear(slot)

    def _prefill(self, new_slots: list[int], slot_of_prompt: dict[Hashable, int]) -> None:
        """Computes or copies keys and values of the prompts in `new_slots`, except for each prompt's last token."""
        prompts = {slot: self._slots.row(slot).request.prompt_ids for slot in new_slots}
        new: list[int] = []
        copies: list[tuple[int, int]] = []
        for slot, prompt in prompts.items():
            if len(prompt) == 1:
                continue
            key = _shared(self._slots.row(slot).request)
            if key in slot_of_prompt:
                copies.append((slot_of_prompt[key], slot))
            else:
                slot_of_prompt[key] = slot
                new.append(slot)
        new.sort(key=lambda slot: len(prompts[slot]))
        while new:
            width = 0
            group: list[int] = []
            for slot in new:
                wider = _round_up(len(prompts[slot]) - 1, PROMPT_STEP)
                if group and wider * (len(group) + 1) > PREFILL_TOKENS:
                    break
                width = wider
                group.append(slot)
            new = new[len(group) :]
            ids = np.zeros((len(group), width), np.int64)
            for row, slot in enumerate(group):
                ids[row, : len(prompts[slot]) - 1] = prompts[slot][:-1]
            self._cache.begin_prefill(self._tensor(np.array(group)))
            self._give_lams(np.array(group))
            self.model(
                input_ids=self._tensor(ids),
                position_ids=torch.arange(width, device=self.device).expand(len(group), width),
                past_key_values=self._cache,
                use_cache=True,
                # Of one token, which nobody reads. A slice of the last would not be contiguous: in 16 bits torch
                # copies the head once for each row of such a product on CPU.
                logits_to_keep=self._tensor(np.zeros(1, np.int64)),
            )
        if copies:
            source, target = np.array(copies).T
            length = max(len(prompts[slot]) - 1 for slot in target)
            self._cache.copy_prompt(self._tensor(source), self._tensor(target), length)

    @torch.inference_mode()
    def _step(self) -> list[Finished]:
        """Decodes one token for every live row."""
        count = _round_up(self._slots.used, self._slot_step)
        spans = self._spans(count)
        positions = self._tensor(self._slots.positions[:count])
        mask = StepMask(positions, max(span.width for span in spans), self.dtype)
        self._cache.begin_decode(positions)
        self._give_lams(np.arange(count))
        logits = self.model(
            input_ids=self._tensor(self._slots.next_tokens[:count, None]),
            attention_mask=mask.causal,
            position_ids=positions[:, None],
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
            row_spans=spans,
            row_mask=mask,
        ).logits[:, -1]
        drawn, logprobs = self._sampler.draw(logits, self._slots.counts[:count], self._forced(count))
        # One copy from the device for both: float32 holds ids below 2^24 exactly.
        tokens, logprobs = torch.stack([drawn.float(), logprobs]).cpu().numpy()
        self._steps += 1
        return self._record(count, tokens.astype(np.int64), logprobs)

    def _record(self, count: int, tokens: np.ndarray, logprobs: np.ndarray) -> list[Finished]:
        """Stores the step's tokens; removes and returns finished rows."""
        slots = self._slots
        live = slots.live[:count]
        if not np.isfinite(logprobs[live]).all():
            raise MullError("the model's logits are not numbers", "look for NaN in the weights with `mull inspect`")
        if self._on_token is not None:
            for slot in np.flatnonzero(live).tolist():
                before = int(slots.counts[slot])
                self._on_token(slots.row(slot).request, before, int(tokens[slot]), float(logprobs[slot]))
        for slot, row in enumerate(slots.rows[:count]):
            if row is not None and row.budget is not None:
                row.budget.push(int(tokens[slot]))
        slots.push(tokens, logprobs)
        stopped = np.isin(tokens, self._stop_ids)
        done = np.flatnonzero(live & (stopped | (slots.counts[:count] >= slots.limits[:count])))
        now = time.perf_counter()
        finished = []
        for slot in done.tolist():
            row = slots.row(slot)
            forced = row.budget is not None and row.budget.used
            response = slots.response(slot)
            finished.append(Finished(row.request, *response, bool(stopped[slot]), now - row.started, forced))
            self._clear(slot)
        return finished

    def _forced(self, count: int) -> dict[int, int]:
        """Slot → the token that its thinking budget puts in place of the drawn one."""
        found = {}
        for slot, row in enumerate(self._slots.rows[:count]):
            if row is not None and row.budget is not None and row.budget.forced is not None:
                found[slot] = row.budget.forced
        return found

    def _spans(self, count: int) -> list[Span]:
        """Divides the slots into runs of neighbours that read the same number of positions."""
        step = SPAN_ROWS if self.device.type == "cpu" else count
        starts = range(0, count, step)
        ends = [min(start + step, count) for start in starts]
        lengths = [int(self._slots.positions[start:end].max()) + 1 for start, end in zip(starts, ends, strict=True)]
        widths = [_round_up(length, WIDTH_STEP) for length in lengths]
        return [Span(*bounds) for bounds in zip(starts, ends, widths, strict=True)]

    @torch.inference_mode()
    def _arrange(self, live: int) -> None:
        """Moves the rows to the lowest slots, longest first, if that saves enough rows or attention width."""
        used = _round_up(self._slots.used, self._slot_step)
        packed = _round_up(live, self._slot_step)
        shrinks = packed <= used * 3 // 4
        if not shrinks and self._steps % SORT_EVERY:
            return
        order = self._slots.by_length(used)
        if not shrinks:
            positions = self._slots.positions[:used]
            cost, sorted_cost = (
                sum(int(lengths[start : start + SPAN_ROWS].max()) for start in range(0, used, SPAN_ROWS))
                for lengths in (positions, positions[order])
            )
            if cost - sorted_cost < 0.1 * cost:
                return
        self._reorder(order)

    def _reorder(self, order: np.ndarray) -> None:
        """Slot i takes the row of slot `order[i]`, for all i < len(order)."""
        used = len(order)
        if used == 0:
            return
        self._cache.permute(self._tensor(order), int(self._slots.positions[:used].max()) + 1)
        self._sampler.permute(order)
        self._slots.permute(order)

    def _give_lams(self, slots: np.ndarray) -> None:
        """Tells the model the λ of the rows of the next forward pass."""
        if self._set_lams is not None:
            self._set_lams(self._tensor(self._slots.lams[slots]))

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        """A copy on the device, because the loop changes `array` afterwards."""
        return torch.tensor(array, device=self.device)


def _shared(request: Request) -> Hashable:
    """Requests for which this is equal have the same keys and values of their prompt."""
    return request.prompt_ids, request.lam


def _round_up(number: int, step: int) -> int:
    return -(-int(number) // step) * step
