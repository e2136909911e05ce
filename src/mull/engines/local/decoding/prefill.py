"""Prefill: keys, values and states of new rows' prompts, computed, or copied from a row with the same prompt.

A prompt that begins as an earlier row did takes that beginning from the `Prefixes`, and only its rest is computed.

It leaves out each prompt's last token, which is the row's first decode step, so that all tokens of a response are
computed by the same code.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import torch

from mull.engines.base import Request
from mull.engines.local.decoding.attention import Span
from mull.engines.local.decoding.batch import Batch, round_up
from mull.engines.local.decoding.cache import PromptRests, PromptRows
from mull.engines.local.decoding.layout import WIDTH_STEP
from mull.engines.local.decoding.prefixes import LEAST, Prefixes

PROMPT_STEP = 16
"""Prompts are padded to a multiple of this many tokens in a prefill, or of the row step if it is larger."""
PREFILL_TOKENS = 8192
"""Most padded tokens per forward pass of a prefill, unless one prompt alone is longer."""


class Prefill:
    """Fills the cache of a `Batch` for rows that are in their slots already."""

    def __init__(self, batch: Batch, prefixes: Prefixes) -> None:
        self._batch, self._prefixes = batch, prefixes
        self._step = max(PROMPT_STEP, batch.row_step)

    def sources(self) -> dict[Hashable, int]:
        """The slots that hold a whole prompt, by that prompt and its λ."""
        slots, layout = self._batch.slots, self._batch.layout
        return {
            _shared(row.request): slot
            for slot, row in enumerate(slots.rows)
            if row and layout.holds_prompt(len(row.request.prompt_ids), int(slots.positions[slot]))
        }

    @torch.inference_mode()
    def fill(self, new_slots: list[int], slot_of_prompt: dict[Hashable, int]) -> None:
        """Computes the prompts in `new_slots`, or copies them from the `sources` that there were before."""
        batch = self._batch
        prompts = {slot: batch.slots.row(slot).request.prompt_ids for slot in new_slots}
        new: list[int] = []
        empty: list[int] = []
        copies: list[tuple[int, int]] = []
        for slot, prompt in prompts.items():
            if len(prompt) == 1:
                empty.append(slot)
                continue
            key = _shared(batch.slots.row(slot).request)
            if key in slot_of_prompt:
                copies.append((slot_of_prompt[key], slot))
                batch.slots.row(slot).cached = len(prompt) - 1
            else:
                slot_of_prompt[key] = slot
                new.append(slot)
        new = self._resume(new)
        new.sort(key=lambda slot: len(prompts[slot]))
        while new:
            width = 0
            group: list[int] = []
            for slot in new:
                wider = round_up(len(prompts[slot]) - 1, self._step)
                # Before a prompt, padding decides how a recurrent layer sums: it must not depend on other prompts.
                other = batch.layout.recurrent and wider != width
                if group and (other or wider * (len(group) + 1) > PREFILL_TOKENS):
                    break
                width = wider
                group.append(slot)
            new = new[len(group) :]
            self._compute(np.array(group), [prompts[slot][:-1] for slot in group], width)
        batch.cache.clear_states(batch.tensor(np.array(empty, np.int64)))
        if copies:
            source, target = np.array(copies).T
            length = max(len(prompts[slot]) - 1 for slot in target)
            batch.cache.copy_prompt(batch.tensor(source), batch.tensor(target), length)

    def _resume(self, slots: list[int]) -> list[int]:
        """Prefills the prompts that begin as kept texts do; returns the slots of the others.

        Rests have a multiple of the prompt step tokens, for the same kernels as elsewhere, and those of one length are
        computed together.
        """
        others: list[int] = []
        rests: dict[int, list[int]] = {}
        for slot in slots:
            row = self._batch.slots.row(slot)
            prompt = np.array(row.request.prompt_ids[:-1])
            found, common = self._prefixes.find(row.request.lam, prompt)
            rest = round_up(len(prompt) - common, self._step)
            row.cached = len(prompt) - rest
            if found is None or row.cached < LEAST:
                row.cached = 0
                others.append(slot)
                continue
            self._batch.cache.paste(slot, found.tensors, row.cached)
            if rest:
                rests.setdefault(rest, []).append(slot)
        for rest, alike in rests.items():
            most = max(1, PREFILL_TOKENS // rest)
            for first in range(0, len(alike), most):
                self._compute_rest(np.array(alike[first : first + most]), rest)
        return others

    def _compute_rest(self, slots: np.ndarray, rest: int) -> None:
        """A forward pass over the last `rest` tokens of the prompts in `slots`, whose others are in the cache."""
        batch = self._batch
        prompts = [batch.slots.row(slot).request.prompt_ids[:-1] for slot in slots.tolist()]
        ids = np.array([prompt[-rest:] for prompt in prompts])
        lengths = np.array([len(prompt) for prompt in prompts])
        positions = batch.tensor(lengths[:, None] - rest + np.arange(rest))
        width = round_up(lengths.max(), WIDTH_STEP)
        batch.cache.begin_rests(PromptRests(batch.tensor(slots), positions, width))
        batch.forward(
            slots,
            input_ids=batch.tensor(ids),
            position_ids=positions,
            logits_to_keep=batch.tensor(np.zeros(1, np.int64)),
            row_positions=positions,
        )

    def _compute(self, slots: np.ndarray, prompts: list[tuple[int, ...]], width: int) -> None:
        """A forward pass over `prompts`, padded to `width`.

        Padding behind a prompt does not change attention, but would go on into states: layers that have them get it
        in front, and a mask.
        """
        batch, recurrent = self._batch, self._batch.layout.recurrent
        lengths = np.array([len(prompt) for prompt in prompts])
        starts = width - lengths if recurrent else np.zeros_like(lengths)
        ids = np.zeros((len(prompts), width), np.int64)
        for row, (start, prompt) in enumerate(zip(starts, prompts, strict=True)):
            ids[row, start : start + len(prompt)] = prompt
        positions = np.arange(width) - starts[:, None]
        padding: dict[str, Any] = {"row_spans": self._spans(lengths.tolist(), width)}
        if recurrent:
            padding |= {"attention_mask": batch.tensor(positions >= 0), "row_starts": batch.tensor(starts)}
        batch.cache.begin_prefill(PromptRows(batch.tensor(slots), batch.tensor(lengths), padding.get("row_starts")))
        batch.forward(
            slots,
            input_ids=batch.tensor(ids),
            position_ids=batch.tensor(positions.clip(0)),
            # Of one token, which nobody reads. A slice of the last would not be contiguous: in 16 bits torch copies the
            # head once for each row of such a product on CPU.
            logits_to_keep=batch.tensor(np.zeros(1, np.int64)),
            **padding,
        )

    def _spans(self, lengths: list[int], width: int) -> list[Span]:
        """Divides the prompts of a prefill, which are sorted by length, into runs of the same padded length.

        On CPU each run attends by itself, because torch's attention sums in an order that depends on the length."""
        if self._batch.device.type != "cpu":
            return [Span(0, len(lengths), width)]
        padded = np.array([round_up(length, self._step) for length in lengths])
        widths, starts, counts = np.unique(padded, return_index=True, return_counts=True)
        return [Span(*map(int, span)) for span in zip(starts, starts + counts, widths, strict=True)]


def _shared(request: Request) -> Hashable:
    """Requests for which this is equal have the same keys and values of their prompt."""
    return request.prompt_ids, request.lam
