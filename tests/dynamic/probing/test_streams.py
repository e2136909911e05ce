"""Measuring one query among the responses of a batch gives what measuring it by itself gives."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from mull import tiny
from mull.benchmarks import FREE_ANSWER, AnswerForm
from mull.dynamic.base import ForcedAnswer, Hidden, Need
from mull.dynamic.probing.local import measure
from mull.dynamic.probing.streams import measure_in
from mull.engines.base import Request, Sampling
from mull.engines.local.engine import LocalEngine
from mull.engines.local.streams import Streams
from mull.errors import MullError

ALL = tuple(Need)


@pytest.fixture(scope="module")
def engine():
    folders = (tiny.checkpoint_folder("instruct"), tiny.checkpoint_folder("thinking"))
    return LocalEngine(*folders, by_row=True, device="cpu", processes=1)


@pytest.mark.parametrize("form", [FREE_ANSWER, AnswerForm("boxed", "The answer is \\boxed{")])
def test_a_query_in_company_is_measured_as_alone(engine, form):
    prompt = engine.render([{"role": "user", "content": "Add up 1 2 3 4."}])
    (alone,) = measure(engine, {"q": prompt}, ALL, form)
    sampling = Sampling(max_tokens=120)

    async def together():
        with Streams(engine) as streams:
            request = Request(id="other", prompt_ids=prompt, seed=1, sampling=sampling, lam=1.0)
            other = streams.submit(request, lambda event: None)
            found = await measure_in(streams, engine, prompt, ALL, form)
            streams.cancel(other)
            return found

    found = asyncio.run(together())
    assert list(found.measured) == list(alone.measured)
    for need in ALL:
        one, two = found.measured[need], alone.measured[need]
        assert one.cost == two.cost
        if isinstance(one, ForcedAnswer):
            assert one.text == two.text and one.entropy == pytest.approx(two.entropy, abs=1e-3)
            assert one.logprobs == pytest.approx(two.logprobs, abs=1e-4)
        else:
            assert isinstance(one, Hidden) and np.allclose(one.layers, two.layers, atol=1e-4)


def test_a_prompt_without_room_is_refused(engine):
    with Streams(engine) as streams, pytest.raises(MullError, match="context"):
        asyncio.run(measure_in(streams, engine, (10,) * engine.context, [Need.forced_instruct], FREE_ANSWER))


def test_calls_are_done_between_two_tokens_and_their_errors_come_back(engine):
    with Streams(engine) as streams:
        assert streams.call(lambda: 5).result() == 5
        with pytest.raises(ZeroDivisionError):
            streams.call(lambda: 1 / 0).result()
        assert streams.call(lambda: 6).result() == 6
    with pytest.raises(MullError, match="closed"):
        streams.call(lambda: 7)
