"""Early exit: thoughts end at the first sure answer, and every token is counted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mull.benchmarks import answer_form, load_benchmark
from mull.dynamic.base import Cost
from mull.dynamic.evaluation import early_exit
from mull.dynamic.evaluation.early_exit import respond
from mull.dynamic.evaluation.policies import EarlyExit
from mull.engines.base import Request, Sampling

EVERY = 10


@pytest.fixture(scope="module")
def requests(row_engine):
    benchmark = load_benchmark("tiny", questions=8, seed=21)
    sampling = Sampling(max_tokens=64)
    return [
        Request(id=q.id, prompt_ids=row_engine.render(benchmark.prompt(q)), seed=i, sampling=sampling, lam=1.0)
        for i, q in enumerate(benchmark.questions())
    ]


@pytest.fixture
def answers(monkeypatch):
    """(prompt, forced answer) of every forced answer."""
    seen = []
    original = early_exit.forced_after

    def forced_after(engine, lam, prompts, form, text):
        for prompt, answer in zip(prompts, original(engine, lam, prompts, form, text), strict=True):
            seen.append((tuple(prompt), answer))
            yield answer

    monkeypatch.setattr(early_exit, "forced_after", forced_after)
    return seen


FORM = answer_form(load_benchmark("tiny", questions=1).describe())


def run(engine, requests, confidence, every=EVERY):
    found = {
        done.id: (done, cost)
        for done, cost in respond(engine, requests, EarlyExit(every=every, confidence=confidence), FORM)
    }
    assert set(found) == {request.id for request in requests}
    return found


@pytest.mark.parametrize("confidence", [0.0, 0.6, 0.95])
def test_a_thought_ends_at_its_first_sure_answer(row_engine, requests, answers, confidence):
    found = run(row_engine, requests, confidence)
    closing = row_engine.prompts.encode("\n</think>\n\n")
    exits = 0
    for request in requests:
        done, cost = found[request.id]
        start = len(request.prompt_ids)
        own = [(len(p) - start, a) for p, a in answers if p[:start] == request.prompt_ids]
        assert [place for place, _ in own] == [EVERY * (i + 1) for i in range(len(own))]
        # Every answer but the last was not sure, or there was no room left to close the thought.
        sure = [a.confidence >= confidence and 64 - place > len(closing) for place, a in own]
        assert sure == [False] * (len(own) - 1) + [done.forced] if own else not done.forced
        if done.forced:
            exits += 1
            place = own[-1][0]
            assert done.token_ids[place : place + len(closing)] == closing
            assert done.logprobs[place : place + len(closing)] == (0.0,) * len(closing)
        forcing = len(row_engine.prompts.encode("\n</think>\n\n" + FORM.opening))
        assert cost == Cost(sum(a.cost.generated for _, a in own), forcing * len(own))
        assert len(done.token_ids) == len(done.logprobs) <= 64
        assert done.finish == "stop" or len(done.token_ids) == 64
        assert done.prompt_tokens == start and done.text == row_engine.prompts.text(done.token_ids)
        assert 0 < done.thought_tokens <= len(done.token_ids)
    assert exits and (len(answers) == len(requests) == exits if confidence == 0 else len(answers) > len(requests))


def test_a_rule_that_is_never_sure_leaves_whole_thoughts(row_engine, requests, answers):
    for done, _ in run(row_engine, requests, 1.1).values():
        assert not done.forced
    assert answers


def test_greedy_pieces_make_the_whole(row_engine, requests):
    """Without exits, a greedy response in pieces is that of one call."""
    greedy = [replace(each, sampling=Sampling(temperature=0, max_tokens=50)) for each in requests]
    whole = {done.id: done for done in row_engine.generate(greedy)}
    for name, (done, _) in run(row_engine, greedy, 1.1).items():
        assert done.token_ids == whole[name].token_ids and done.finish == whole[name].finish
        assert done.thought_tokens == whole[name].thought_tokens


@pytest.mark.parametrize("limit", [1, 4, 9, 10, 11, 23])
def test_no_response_is_longer_than_it_may_be(row_engine, requests, limit):
    short = [replace(each, sampling=Sampling(max_tokens=limit)) for each in requests]
    for done, _ in run(row_engine, short, 0.0).values():
        assert len(done.token_ids) <= limit and (done.finish == "stop" or len(done.token_ids) == limit)


def test_a_full_context_ends_a_response(row_engine, requests, monkeypatch):
    longest = max(len(each.prompt_ids) for each in requests)
    monkeypatch.setattr(row_engine, "context", longest + 25)
    many = [replace(each, sampling=Sampling(max_tokens=1000)) for each in requests]
    for request in many:
        done, _ = run(row_engine, [request], 1.1)[request.id]
        assert len(request.prompt_ids) + len(done.token_ids) <= longest + 25
        assert done.finish == "stop" or len(request.prompt_ids) + len(done.token_ids) == longest + 25
