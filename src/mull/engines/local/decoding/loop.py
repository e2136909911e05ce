"""Continuous batching over a transformers model: when a row finishes, another one takes its slot.

The layers are the model's; this loop gives them a `RowCache`, positions and a mask. The prefill computes keys,
values and states of a prompt except for its last token, which is the row's first decode step, so that all tokens of a
response are computed by the same code. Rows with the same prompt share one prefill, as long as a row still holds its
prompt. Knows no λ, no tokenizer and no chat template.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any

import numpy as np
import torch

from mull.engines.base import Request
from mull.engines.forward import cache_name
from mull.engines.local.decoding.attention import Span, StepMask
from mull.engines.local.decoding.budget import RowBudget, ThoughtBudget
from mull.engines.local.decoding.cache import PromptRows, RowCache
from mull.engines.local.decoding.layout import WIDTH_STEP, Layout
from mull.engines.local.decoding.rows import Finished, LiveRow, Lookahead
from mull.engines.local.decoding.sampler import Alternatives, RowSampler
from mull.engines.local.decoding.slots import Slots
from mull.errors import MullError

PROMPT_STEP = 16
"""Prompts are padded to a multiple of this many tokens in a prefill, or of the row step if it is larger."""
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
        layout: Layout,
        free: int,
        row_step: int = 1,
        set_lams: Callable[[torch.Tensor], None] | None = None,
        on_token: OnToken | None = None,
        budget_of: Callable[[Request], ThoughtBudget | None] | None = None,
        alternatives_of: Callable[[Request], int] | None = None,
    ) -> None:
        """A decode step has a multiple of `row_step` rows, so that kernels sum in the same order (`same_bits`).
        `set_lams` gives the rows of the next forward pass their λ, float32 `[n]`, in a model with a λ per row.
        `budget_of` gives the limit of a request's thought. `on_token` is called for each new token: its request, how
        many came before it, its id, its logprob, and the likeliest tokens in its place, as many as `alternatives_of`
        the request."""
        self.model, self.context, self.device, self.dtype = model, context, device, dtype
        self.batch = batch
        self._layout = layout
        self._free, self._budget = free, free // 2
        self._stop_ids = np.array(sorted(stop_ids), np.int64)
        self._slot_step = row_step
        self._prompt_step = max(PROMPT_STEP, row_step)
        slots = _round_up(batch, self._slot_step)
        self._slots = Slots(slots)
        self._cache = RowCache(layout)
        self._given_cache = {cache_name(model): self._cache}
        self._sampler = RowSampler(slots, device)
        self._set_lams, self._on_token = set_lams, on_token
        self._budget_of, self._alternatives_of = budget_of, alternatives_of
        self._lams: tuple[np.ndarray, torch.Tensor] | None = None
        """Those of the latest forward pass. The same rows give the same tensor, from which the model has derived
        others."""
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

    @property
    def capacity(self) -> int:
        """Positions that there is memory for in a row, however many rows wait."""
        return self._layout.width_within(self._free // self._slot_step) // WIDTH_STEP * WIDTH_STEP

    def cancel(self, request: Request) -> Finished | None:
        """Ends `request` and frees its slot. Returns the response so far; None if no slot holds it."""
        slot = next((slot for slot, row in enumerate(self._slots.rows) if row and row.request is request), None)
        return None if slot is None else self._finish(slot, stopped=True)

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
            if slots > self._slot_step and self._bytes(slots, _round_up(width, WIDTH_STEP)) > self._budget:
                break
            chosen.append((waiting.pop(), limit))
            longest, need = new_longest, new_need
        if not chosen:
            return
        self._make_room(waiting, len(chosen), longest, need)
        slot_of_prompt = {
            _shared(row.request): slot
            for slot, row in enumerate(self._slots.rows)
            if row and self._layout.holds_prompt(len(row.request.prompt_ids), int(self._slots.positions[slot]))
        }
        new_slots = self._slots.free(len(chosen))
        for slot, (request, limit) in zip(new_slots, chosen, strict=True):
            budget = self._budget_of(request) if self._budget_of else None
            alternatives = self._alternatives_of(request) if self._alternatives_of else 0
            self._slots.fill(
                slot, LiveRow(request, started, RowBudget(budget) if budget else None, alternatives), limit
            )
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
        if self._bytes(slots, width) > self._budget:
            slots = _round_up(live + fresh, self._slot_step)
            if self._bytes(slots, width) > self._budget:
                grown = _round_up(min(longest + GROWTH, need), WIDTH_STEP)
                fitting = max(self._slot_step, self._rows_within(grown))
                self._send_back(waiting, live + fresh - fitting)
                slots = _round_up(self._slots.count + fresh, self._slot_step)
            self._reorder(self._slots.by_length(self._slots.used))
        if self._bytes(slots, width) > self._free:
            row = self._slots.rows[int(self._slots.positions.argmax())]
            name = f"request {row.request.id!r}" if row and not fresh else "a prompt"
            most = self._layout.width_within(self._free // slots)
            raise MullError(
                f"the key/value cache has outgrown the free memory of {self.device}: {name} has reached {longest:,} "
                f"tokens, and there is room for {most:,} in each of {slots} rows",
                "Lower --max-tokens, or free memory",
            )
        larger = self._cache.width
        if width > larger:
            larger = max(width, min(larger * 3 // 2, need))
        room = self._layout.width_within(self._budget // slots) // WIDTH_STEP * WIDTH_STEP
        width = max(width, min(_round_up(larger, WIDTH_STEP), room))
        spare = self._rows_within(width)
        self._cache.resize(max(slots, min(self._cache.slots, spare)), width)

    def _bytes(self, slots: int, width: int) -> int:
        return slots * self._layout.row_bytes(width)

    def _rows_within(self, width: int) -> int:
        """How many rows of `width` positions the budget allows, as a multiple of the slot step."""
        return self._budget // self._layout.row_bytes(width) // self._slot_step * self._slot_step

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
        empty: list[int] = []
        copies: list[tuple[int, int]] = []
        for slot, prompt in prompts.items():
            if len(prompt) == 1:
                empty.append(slot)
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
                wider = _round_up(len(prompts[slot]) - 1, self._prompt_step)
                # Before a prompt, padding decides how a recurrent layer sums: it must not depend on other prompts.
                other = self._layout.recurrent and wider != width
                if group and (other or wider * (len(group) + 1) > PREFILL_TOKENS):
                    break
                width = wider
                group.append(slot)
            new = new[len(group) :]
            self._prefill_group(np.array(group), [prompts[slot][:-1] for slot in group], width)
        self._cache.clear_states(self._tensor(np.array(empty, np.int64)))
        if copies:
            source, target = np.array(copies).T
            length = max(len(prompts[slot]) - 1 for slot in target)
            self._cache.copy_prompt(self._tensor(source), self._tensor(target), length)

    def _prefill_group(self, slots: np.ndarray, prompts: list[tuple[int, ...]], width: int) -> None:
        """A forward pass over `prompts`, padded to `width`.

        Padding behind a prompt does not change attention, but would go on into states: layers that have them get it
        in front, and a mask.
        """
        lengths = np.array([len(prompt) for prompt in prompts])
        starts = width - lengths if self._layout.recurrent else np.zeros_like(lengths)
        ids = np.zeros((len(prompts), width), np.int64)
        for row, (start, prompt) in enumerate(zip(starts, prompts, strict=True)):
            ids[row, start : start + len(prompt)] = prompt
        positions = np.arange(width) - starts[:, None]
        padding: dict[str, Any] = {"row_spans": self._prompt_spans(lengths.tolist(), width)}
        if self._layout.recurrent:
            padding |= {"attention_mask": self._tensor(positions >= 0), "row_starts": self._tensor(starts)}
        self._cache.begin_prefill(PromptRows(self._tensor(slots), self._tensor(lengths), padding.get("row_starts")))
        self._give_lams(slots)
        self.model(
            input_ids=self._tensor(ids),
            position_ids=self._tensor(positions.clip(0)),
            use_cache=True,
            # Of one token, which nobody reads. A slice of the last would not be contiguous: in 16 bits torch copies the
            # head once for each row of such a product on CPU.
            logits_to_keep=self._tensor(np.zeros(1, np.int64)),
            **self._given_cache,
            **padding,
        )

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
            use_cache=True,
            logits_to_keep=1,
            row_spans=spans,
            row_mask=mask,
            **self._given_cache,
        ).logits[:, -1]
        drawn, logprobs = self._sampler.draw(logits, self._slots.counts[:count], self._forced(count))
        wanted = {slot: row.alternatives for slot, row in enumerate(self._slots.rows) if row and row.alternatives}
        likeliest = self._sampler.likeliest(logits, wanted) if wanted else {}
        # One copy from the device for both: float32 holds ids below 2^24 exactly.
        tokens, logprobs = torch.stack([drawn.float(), logprobs]).cpu().numpy()
        self._steps += 1
        return self._record(count, tokens.astype(np.int64), logprobs, likeliest)

    def _record(
        self, count: int, tokens: np.ndarray, logprobs: np.ndarray, likeliest: dict[int, Alternatives]
    ) -> list[Finished]:
        """Stores the step's tokens; removes and returns finished rows."""
        slots = self._slots
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
        row = self._slots.row(slot)
        forced = row.budget is not None and row.budget.used
        tokens, logprobs = self._slots.response(slot)
        self._clear(slot)
        return Finished(row.request, tokens, logprobs, stopped, time.perf_counter() - row.started, forced)

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

    def _prompt_spans(self, lengths: list[int], width: int) -> list[Span]:
        """Divides the prompts of a prefill, which are sorted by length, into runs of the same padded length.

        On CPU each run attends by itself, because torch's attention sums in an order that depends on the length."""
        if self.device.type != "cpu":
            return [Span(0, len(lengths), width)]
        padded = np.array([_round_up(length, self._prompt_step) for length in lengths])
        widths, starts, counts = np.unique(padded, return_index=True, return_counts=True)
        return [Span(*map(int, span)) for span in zip(starts, starts + counts, widths, strict=True)]

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
            lams = self._slots.lams[slots]
            if self._lams is None or not np.array_equal(lams, self._lams[0]):
                self._lams = lams, self._tensor(lams)
            self._set_lams(self._lams[1])

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        """A copy on the device, because the loop changes `array` afterwards."""
        return torch.tensor(array, device=self.device)


OnToken = Callable[[Request, int, int, float, Alternatives], None]


def _shared(request: Request) -> Hashable:
    """Requests for which this is equal have the same keys and values of their prompt."""
    return request.prompt_ids, request.lam


def _round_up(number: int, step: int) -> int:
    return -(-int(number) // step) * step
