"""Responses token by token: equal to those of a batch, in any company, with cancelled ones and errors among them."""

from __future__ import annotations

import asyncio
import queue
import random
import threading
from dataclasses import replace

import pytest
import torch

from mull.engines.base import Request, Sampling
from mull.engines.local.decoding.slots import Slots
from mull.engines.local.engine import LocalEngine
from mull.engines.local.streams import Ended, Streams, Token, Wanted
from mull.errors import MullError
from mull.thinking import split_thinking
from mull.tiny import checkpoint_folder

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


@pytest.fixture(scope="module")
def tiny():
    ends = checkpoint_folder("instruct"), checkpoint_folder("thinking")
    return LocalEngine(*ends, by_row=True, processes=1, batch_size=16)


def asked(engine, count, tokens=30, **sampling):
    drawn = random.Random(2)
    for i in range(count):
        prompt = engine.render([{"role": "user", "content": f"{drawn.randrange(100)} + {drawn.randrange(100)} = ?"}])
        how = Sampling(temperature=drawn.choice([0.0, 0.8, 1.2]), top_k=0, max_tokens=drawn.randrange(1, tokens))
        lam = drawn.choice(LAMS)
        yield Request(id=str(i), prompt_ids=prompt, seed=i, sampling=replace(how, **sampling), lam=lam)


def joined(events, kind):
    return "".join(piece.text for event in events for piece in event.pieces if piece.kind == kind)


def test_many_come_and_go_from_many_threads(tiny):
    """Texts, thoughts and answers are those of the same requests asked in one batch."""
    everything = list(asked(tiny, 200))
    expected = {completion.id: completion for completion in tiny.generate(everything)}
    ends = {}

    def work(number):
        drawn = random.Random(number)
        for request in everything[number::8]:
            events = streams.tokens(request, Wanted(hold=drawn.random() < 0.5, alternatives=drawn.choice([0, 0, 3])))
            stay = drawn.choice([0, 1, 5, None, None])
            got = [event for event, _ in zip(events, range(10**9 if stay is None else stay), strict=False)]
            events.close()
            ends[request.id] = got

    with Streams(tiny) as streams:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert streams.count == 0 and len(ends) == 200
    complete = {key: got for key, got in ends.items() if got and isinstance(got[-1], Ended)}
    assert len(complete) > 60
    for key, got in ends.items():
        tokens = tuple(event.id for event in got if isinstance(event, Token))
        assert tokens == expected[key].token_ids[: len(tokens)]
    for key, got in complete.items():
        ended = got[-1]
        assert replace(ended.finished, seconds=0) == replace(expected[key], seconds=0)
        thought, answer = joined(got, "thought"), joined(got, "answer")
        if not ended.corrected:
            assert (thought, answer) == (ended.split.thought, ended.split.answer)
        text, finished = ended.finished.text, ended.finished.finish == "stop"
        if finished:
            assert ended.split == split_thinking(text, finished=True)


def test_a_stop_string_ends_the_row_at_its_token(tiny):
    (request,) = asked(tiny, 1)
    request = replace(request, lam=1.0, sampling=Sampling(temperature=0, max_tokens=200))
    (whole,) = tiny.generate([request])
    stop = whole.text[20:23]
    cut = whole.text.index(stop)
    with Streams(tiny) as streams:
        got = list(streams.tokens(request, Wanted(stop=("never so", stop))))
        assert streams.count == 0
    ended = got[-1]
    assert ended.stop == stop and ended.finished.finish == "stop" and ended.finished.text == whole.text[:cut]
    tokens = ended.finished.token_ids
    assert tokens == whole.token_ids[: len(tokens)] and len(tokens) == len(got) - 1 < len(whole.token_ids)
    assert stop in tiny.prompts.text(tokens) and stop not in tiny.prompts.text(tokens[:-1])
    assert stop not in joined(got, "thought") + joined(got, "answer")
    assert ended.reasoning_tokens <= len(tokens)
    with pytest.raises(MullError, match="none may be empty"):
        Wanted(stop=("",))


def test_reasoning_tokens_are_those_between_the_delimiters(tiny):
    close = tiny.prompts.tokenizer.encode("</think>", add_special_tokens=False)
    assert len(close) == 1
    everything = [
        replace(request, lam=1.0, sampling=Sampling(temperature=0, max_tokens=300)) for request in asked(tiny, 8)
    ]
    ends = queue.SimpleQueue()
    with Streams(tiny) as streams:
        for request in everything:
            streams.submit(request, lambda event: isinstance(event, Ended) and ends.put(event))
        found = [ends.get(timeout=120) for _ in everything]
    opened = tiny.prompts.opened(everything[0].prompt_ids) is not None
    seen = 0
    for ended in found:
        ids = ended.finished.token_ids
        if ids.count(close[0]) == 1:
            seen += 1
            place = ids.index(close[0])
            assert ended.reasoning_tokens == place - (0 if opened else 1)
            assert ended.finished.thought_tokens == place + 1
    assert seen


def test_likeliest_tokens(tiny):
    (request,) = asked(tiny, 1)
    request = replace(request, lam=0.5, sampling=Sampling(temperature=0, max_tokens=6))
    with Streams(tiny) as streams:
        other = streams.submit(replace(request, seed=9), lambda event: None)
        *tokens, _ = streams.tokens(request, Wanted(alternatives=4))
        streams.cancel(other)
        plain = list(streams.tokens(request))
    assert [token.id for token in tokens] == [token.id for token in plain[:-1]]
    for token in tokens:
        ids, logprobs = zip(*token.alternatives, strict=True)
        assert len(set(ids)) == 4 and list(logprobs) == sorted(logprobs, reverse=True)
        assert (token.id, pytest.approx(token.logprob, abs=1e-5)) == token.alternatives[0]  # greedy
    with torch.inference_mode():  # the first, by the model's own forward pass
        tiny._lams.set(torch.tensor([0.5]))
        logits = tiny.model(input_ids=torch.tensor([request.prompt_ids])).logits[0, -1].float()
    logprobs, ids = logits.log_softmax(-1).topk(4)
    assert [i for i, _ in tokens[0].alternatives] == ids.tolist()
    assert [value for _, value in tokens[0].alternatives] == pytest.approx(logprobs.tolist(), abs=1e-4)
    assert all(token.alternatives == () for token in plain[:-1])
    with pytest.raises(MullError, match="from 0 to 20"):
        Wanted(alternatives=21)


def test_a_receiver_that_fails_ends_its_own_response_only(engine, alone):
    first, second = requests(2)
    told, ended = [], queue.SimpleQueue()

    def broken(event):
        told.append(event)
        raise ValueError("no room")

    with Streams(engine) as streams:
        streams.submit(first, broken)
        streams.submit(second, ended.put)
        got = []
        while not got or not isinstance(got[-1], Ended):
            got.append(ended.get(timeout=60))
        assert read(got)[:2] == alone[second.id]
        *_, last = streams.tokens(first)
        assert last.finished is not None and streams.count == 0
    assert isinstance(told[0], Token) and isinstance(told[1], Ended) and len(told) == 2
    assert "no room" in str(told[1].error)


def test_one_may_cancel_submit_and_close_from_a_receiver(engine):
    first, second = requests(2, tokens=200)
    events, closed = queue.SimpleQueue(), threading.Event()
    streams = Streams(engine)
    opened = {}

    def receive(event):
        events.put(event)
        if isinstance(event, Token) and first.id not in opened:
            opened[first.id] = streams.submit(second, lambda event: (streams.close(), closed.set()))

    streams.submit(first, receive)
    assert closed.wait(60)
    streams.close()  # again
    assert streams.count == 0
    last = None
    while not events.empty():
        last = events.get()
    assert last == Ended(None)
    streams.cancel(opened[first.id])  # after the end: nothing happens


def test_an_error_spares_those_that_wait(engine, alone, monkeypatch):
    """At most eight rows are decoded when the model fails once; the others are answered all the same."""
    everything = requests(20, tokens=40)
    events = {request.id: queue.SimpleQueue() for request in everything}
    real, tokens = engine.model.forward, []

    def fail_once(*args, **kwargs):
        if len(tokens) > 20:
            monkeypatch.setattr(engine.model, "forward", real)
            raise ValueError("no luck")
        return real(*args, **kwargs)

    def receive(key, event):
        tokens.append(event)
        events[key].put(event)

    monkeypatch.setattr(engine.model, "forward", fail_once)
    with Streams(engine) as streams:
        for request in everything:
            streams.submit(request, lambda event, key=request.id: receive(key, event))
        ends = {}
        for key, own in events.items():
            got = []
            while not got or not isinstance(got[-1], Ended):
                got.append(own.get(timeout=60))
            ends[key] = read(got)
    failed = {key for key, (_, _, ended) in ends.items() if ended.error}
    assert 0 < len(failed) <= 8
    for key in set(ends) - failed:
        assert ends[key][:2] == alone[key]


def test_the_first_to_come_is_the_first_to_be_answered(engine):
    begun = []
    everything = requests(20, tokens=12)
    ended = queue.SimpleQueue()
    with Streams(engine) as streams:

        def receive(key, event):
            if key not in begun:
                begun.append(key)
            if isinstance(event, Ended):
                ended.put(key)

        for request in everything:
            streams.submit(request, lambda event, key=request.id: receive(key, event))
        for _ in everything:
            ended.get(timeout=60)
    assert [int(key) for key in begun] == list(range(20))


def test_what_memory_does_not_hold(engine, monkeypatch):
    monkeypatch.setattr("mull.engines.local.engine.free_memory", lambda device: 8 * engine._layout.row_bytes(64))
    request = requests(1)[0]
    with Streams(engine) as streams:
        with pytest.raises(MullError, match="100 tokens, and there is memory for 64"):
            streams.submit(replace(request, prompt_ids=(6,) * 100), lambda event: None)
        long = replace(request, sampling=Sampling(temperature=0.8, max_tokens=1000))
        *tokens, ended = streams.tokens(long)
        assert ended.error is None and len(tokens) <= 64 - len(request.prompt_ids)
        assert len(tokens) == 64 - len(request.prompt_ids) or ended.finished.finish == "stop"


def test_events_for_an_event_loop(engine, alone):
    everything = requests(6)

    async def ask(request):
        return read([event async for event in streams.events(request)])

    async def drop(request):
        async for _ in streams.events(request):
            raise asyncio.CancelledError

    async def main():
        dropped = asyncio.create_task(drop(requests(1, tokens=2000)[0]))
        found = await asyncio.gather(*map(ask, everything))
        with pytest.raises(asyncio.CancelledError):
            await dropped
        waiting = asyncio.create_task(ask(requests(2, tokens=2000)[1]))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        with pytest.raises(MullError, match="empty prompt"):
            await ask(replace(everything[0], prompt_ids=()))
        return found

    with Streams(engine) as streams:
        found = asyncio.run(main())
        *_, ended = streams.tokens(everything[0])
        assert ended.finished is not None
    assert streams.count == 0
    for request, (tokens, logprobs, _) in zip(everything, found, strict=True):
        assert (tokens, logprobs) == alone[request.id]
