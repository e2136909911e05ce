"""Responses token by token: equal to those of a batch, in any company, with cancelled ones and errors among them."""

from __future__ import annotations

import queue
import random
import threading
from dataclasses import replace

import pytest

from mull.engines.base import Request, Sampling
from mull.engines.local.decoding.slots import Slots
from mull.engines.local.engine import LocalEngine
from mull.engines.local.streams import Ended, Streams, Token
from mull.errors import MullError

LAMS = (0.0, 0.3, 0.55, 0.8, 1.0)


def requests(count, *, lams=LAMS, tokens=40, shared=True):
    drawn = random.Random(1)
    prompts = [tuple(drawn.randrange(6, 60) for _ in range(drawn.randrange(1, 20))) for _ in range(count)]
    if shared:
        prompts = [prompts[i // 2 * 2] for i in range(count)]  # two and two have one prompt, at two λ
    sampling = Sampling(temperature=0.8, top_p=0.95, top_k=0, max_tokens=tokens)
    return [
        Request(id=str(i), prompt_ids=prompt, seed=i, sampling=sampling, lam=lams[i % len(lams)])
        for i, prompt in enumerate(prompts)
    ]


@pytest.fixture(scope="module")
def engine(pairs):
    return LocalEngine(*pairs("qwen3"), by_row=True, processes=1, batch_size=8)


@pytest.fixture(scope="module")
def alone(engine):
    """Each request by itself: (tokens, logprobs)."""
    found = {}
    for request in requests(20):
        (completion,) = engine.generate([request])
        found[request.id] = (completion.token_ids, completion.logprobs)
    return found


def read(events):
    """Tokens, logprobs and the end of a response."""
    *tokens, ended = events
    assert isinstance(ended, Ended) and all(isinstance(token, Token) for token in tokens)
    return tuple(t.id for t in tokens), tuple(t.logprob for t in tokens), ended


def test_rows_of_many_lambdas_are_what_they_are_alone(engine, alone):
    batch = {c.id: (c.token_ids, c.logprobs) for c in engine.generate(requests(20))}
    assert batch == alone


def test_rows_that_move_to_other_slots_take_their_lambda_along(engine, monkeypatch):
    """Most of 24 rows end early, so that the others move to lower slots."""
    orders = []
    permute = Slots.permute
    monkeypatch.setattr(Slots, "permute", lambda self, order: (orders.append(order), permute(self, order))[1])
    monkeypatch.setattr(engine, "_batch_size", 24)
    asked = [
        replace(request, sampling=replace(request.sampling, max_tokens=24 if i % 3 == 2 else 4))
        for i, request in enumerate(requests(24))
    ]
    together = {c.id: (c.token_ids, c.logprobs) for c in engine.generate(asked)}
    moved = {int(slot) for order in orders for place, slot in enumerate(order) if slot != place}
    assert len({asked[slot].lam for slot in moved}) > 2, "rows of several λ have moved"
    for request in asked[2::3]:
        (completion,) = engine.generate([request])
        assert together[request.id] == (completion.token_ids, completion.logprobs)


@pytest.mark.parametrize("lam", [0.0, 0.4, 1.0])
def test_a_lambda_of_one_row_is_that_of_the_whole_model(pairs, engine, lam):
    """At the ends the weights are the checkpoints' own; between them a merge is rounded, so only most tokens agree."""
    from mull.merging.coefficients import Coefficients

    greedy = Sampling(temperature=0, max_tokens=24)
    plain = LocalEngine(*pairs("qwen3"), processes=1)
    plain.set_weights(Coefficients.scalar(lam))
    asked = [Request(id=r.id, prompt_ids=r.prompt_ids, seed=0, sampling=greedy) for r in requests(8)]
    expected = {c.id: c for c in plain.generate(asked)}
    found = engine.generate(Request(id=r.id, prompt_ids=r.prompt_ids, seed=0, sampling=greedy, lam=lam) for r in asked)
    for completion in found:
        other = expected[completion.id]
        if lam in (0.0, 1.0):
            assert completion.token_ids == other.token_ids
            assert completion.logprobs == pytest.approx(other.logprobs, abs=1e-4)
        else:
            assert completion.logprobs[0] == pytest.approx(other.logprobs[0], abs=0.2)


def test_streams_equal_the_batch_whenever_they_come(engine, alone):
    found = {}

    def ask(request, wait):
        pause.wait(wait)
        found[request.id] = read(streams.tokens(request))

    pause = threading.Event()
    with Streams(engine) as streams:
        threads = [
            threading.Thread(target=ask, args=(request, 0.02 * (i % 7))) for i, request in enumerate(requests(20))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert streams.count == 0
    assert {key: (tokens, logprobs) for key, (tokens, logprobs, _) in found.items()} == alone
    assert all(ended.finished and ended.error is None for _, _, ended in found.values())


def test_a_cancelled_response_leaves_its_row_and_harms_none(engine, alone):
    """Nine long ones for eight rows: the ninth is answered only because one is cancelled."""
    asked = requests(9, tokens=200)
    first, *others = asked
    with Streams(engine) as streams:
        dropped = streams.tokens(first)
        begun = [next(dropped).id for _ in range(3)]
        events = {request.id: queue.SimpleQueue() for request in others}
        for request in others:
            streams.submit(request, events[request.id].put)
        dropped.close()
        ends = {}
        for key, own in events.items():
            got = []
            while not got or not isinstance(got[-1], Ended):
                got.append(own.get(timeout=60))
            ends[key] = read(got)
        assert streams.count == 0
    assert tuple(begun) == alone[first.id][0][:3]
    for key, (tokens, _, ended) in ends.items():
        assert tokens[:40] == alone[key][0] and ended.finished is not None


def test_a_waiting_response_can_be_cancelled_too(engine):
    asked = requests(10, tokens=200)
    ended = queue.SimpleQueue()
    with Streams(engine) as streams:
        opened = [streams.submit(request, lambda event: None) for request in asked]
        last = streams.submit(requests(11, tokens=200)[10], ended.put)
        streams.cancel(last)
        event = ended.get(timeout=60)
        while isinstance(event, Token):
            event = ended.get(timeout=60)
        assert event == Ended(None)
        for stream in opened:
            streams.cancel(stream)
        streams.cancel(last)  # again: nothing happens
    assert streams.count == 0


def test_closing_ends_what_is_under_way(engine):
    events = queue.SimpleQueue()
    streams = Streams(engine)
    streams.submit(requests(1, tokens=200)[0], events.put)
    streams.close()
    last = None
    while not events.empty():
        last = events.get()
    assert isinstance(last, Ended)
    with pytest.raises(MullError, match="closed"):
        streams.submit(requests(1)[0], events.put)


def test_too_many_are_refused(engine):
    with Streams(engine, most_waiting=2) as streams:
        asked = requests(3, tokens=200)
        opened = [streams.submit(request, lambda event: None) for request in asked[:2]]
        with pytest.raises(MullError, match="2 responses are under way"):
            streams.submit(asked[2], lambda event: None)
        for stream in opened:
            streams.cancel(stream)


def test_an_error_ends_the_responses_under_way_and_not_the_engine(engine, alone, monkeypatch):
    asked = requests(2)
    broken = []
    with Streams(engine) as streams:
        real = engine.model.forward

        def fail(*args, **kwargs):
            broken.append(1)
            raise RuntimeError("no luck")

        monkeypatch.setattr(engine.model, "forward", fail)
        tokens, _, ended = read(streams.tokens(asked[0]))
        assert broken and tokens == () and "no luck" in str(ended.error)
        monkeypatch.setattr(engine.model, "forward", real)
        tokens, logprobs, _ = read(streams.tokens(asked[1]))
        assert (tokens, logprobs) == alone["1"]


def test_requests_that_do_not_fit_the_engine(engine, pairs):
    request = requests(1)[0]
    with Streams(engine) as streams, pytest.raises(MullError, match="names no λ, and the engine has a λ per row"):
        streams.submit(Request(id="x", prompt_ids=(6,), seed=0, sampling=request.sampling), lambda event: None)
    plain = LocalEngine(*pairs("qwen3"), processes=1)
    with pytest.raises(MullError, match="asks for λ = 0, and the engine has one λ"):
        list(plain.generate([request]))
    with pytest.raises(MullError, match="no weights to set"):
        from mull.merging.coefficients import Coefficients

        engine.set_weights(Coefficients.scalar(0.5))
