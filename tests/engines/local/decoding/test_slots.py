"""The rows' state moves as one: what a row has must follow it from slot to slot."""

import numpy as np
import pytest

from mull.engines.base import Request, Sampling
from mull.engines.local.decoding.rows import LiveRow
from mull.engines.local.decoding.slots import Slots


@pytest.fixture
def slots():
    """Four slots; rows with prompts of 3, 5 and 2 tokens in slots 0, 1 and 3."""
    made = Slots(4)
    for slot, prompt in ((0, (7, 8, 9)), (1, (1, 2, 3, 4, 5)), (3, (6, 7))):
        request = Request(id=f"r{slot}", prompt_ids=prompt, seed=0, sampling=Sampling(), lam=slot / 4)
        made.fill(slot, LiveRow(request, 0.0), limit=10 * (slot + 1))
    return made


def test_a_row_begins_at_the_last_token_of_its_prompt(slots):
    assert slots.next_tokens.tolist() == [9, 5, 0, 7] and slots.positions.tolist() == [2, 4, 0, 1]
    assert slots.lams.tolist() == [0, 0.25, 0, 0.75]
    assert (slots.count, slots.used, slots.longest, slots.need) == (3, 4, 5, 42)
    assert slots.free(9) == [2] and slots.by_length(4).tolist() == [1, 0, 3, 2]


def test_tokens_follow_their_row_and_grow_without_end(slots):
    for step in range(150):
        slots.push(np.array([step, 1000 + step, 0, 3000 + step]), np.full(4, -step / 2))
        if step == 70:
            slots.lams[0] = 0.5
            slots.clear(0)
            slots.permute(slots.by_length(4))
            assert [row and row.request.id for row in slots.rows] == ["r1", "r3", None, None]
            assert slots.lams.tolist() == [0.25, 0.75, 0, 0], "an empty slot has none"
    tokens, logprobs = slots.response(0)
    assert tokens.tolist() == [*range(1000, 1071), *range(71, 150)]
    assert logprobs.tolist() == [-step / 2 for step in range(150)]
    assert slots.response(1)[0][:2].tolist() == [3000, 3001]
    assert slots.counts.tolist() == [150, 150, 0, 0] and slots.positions.tolist() == [154, 151, 0, 0]


def test_the_youngest_are_the_rows_with_the_fewest_tokens(slots):
    slots.counts[:] = [5, 9, 0, 2]
    assert slots.youngest(2) == [3, 0] and slots.youngest(-1) == []
