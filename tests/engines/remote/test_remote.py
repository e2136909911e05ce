"""The remote engine against a server in a process of its own, with the faults of real ones."""

import asyncio
import json
import threading
import time
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest

from mull.engines.base import Request, Sampling
from mull.engines.remote import chat
from mull.engines.remote.chat import ChatClient
from mull.engines.remote.endpoints import Endpoints
from mull.engines.remote.engine import RemoteEngine
from mull.errors import MullError
from mull.merging.coefficients import Coefficients


def engine_at(url, lam=1, lambdas=(0, 1), omit=(), **options):
    engine = RemoteEngine(Endpoints.pattern(url, "name@{lambda}", lambdas, omit), **{"backoff": 0.01, **options})
    engine.set_weights(Coefficients.scalar(lam))
    return engine


def requests_of(engine, count, **sampling):
    prompt = engine.render([{"role": "user", "content": "λ?"}])
    chosen = Sampling(**{"max_tokens": 64, **sampling})
    return [Request(id=str(i), prompt_ids=prompt, seed=2**40 + i, sampling=chosen) for i in range(count)]


def logged(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_request_is_answered_once_with_its_own_seed_and_sampling(serve, tmp_path):
    engine = engine_at(serve(log=str(tmp_path / "log")))
    done = list(engine.generate(requests_of(engine, 40, temperature=0.7, top_p=0.8, top_k=5)))
    assert sorted(int(c.id) for c in done) == list(range(40))
    assert all(c.text.startswith("<think>") and c.tokens == len(c.text) and c.finish == "stop" for c in done)
    assert all(c.seconds > 0 and c.token_ids == () for c in done)
    sent = logged(tmp_path / "log")
    assert {entry["seed"] for entry in sent} == {(2**40 + i) % 2**31 for i in range(40)}
    assert all(entry["messages"] == [{"role": "user", "content": "λ?"}] for entry in sent)
    assert {(e["temperature"], e["top_p"], e["top_k"], e["max_tokens"]) for e in sent} == {(0.7, 0.8, 5, 64)}


def test_lambda_chooses_the_model(serve, tmp_path):
    engine = engine_at(serve(log=str(tmp_path / "log")))
    for lam in (0, 1):
        engine.set_weights(Coefficients.scalar(lam))
        [found] = engine.generate(requests_of(engine, 1))
        assert ("</think>" in found.text) == (lam == 1)
    assert [entry["model"] for entry in logged(tmp_path / "log")] == ["name@0", "name@1"]
    with pytest.raises(MullError, match=r"no endpoint stands for 0\.5"):
        engine.set_weights(Coefficients.scalar(0.5))


def test_requests_of_many_lambdas_go_each_to_its_own_model(serve, tmp_path):
    engine = RemoteEngine(Endpoints.pattern(serve(log=str(tmp_path / "log")), "name@{lambda}", (0, 1)), backoff=0.01)
    given = [replace(each, lam=float(each.id) % 2) for each in requests_of(engine, 6)]
    found = {each.id: "</think>" in each.text for each in engine.generate(given)}
    assert found == {str(i): i % 2 == 1 for i in range(6)}
    with pytest.raises(MullError, match=r"no endpoint stands for 0\.5"):
        list(engine.generate([replace(given[0], lam=0.5)]))
    with pytest.raises(MullError, match="no λ is chosen"):
        list(engine.generate(requests_of(engine, 1)))


def test_a_server_of_this_machine_can_be_asked_past_the_proxies_of_the_environment(serve, monkeypatch):
    url = serve()
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    direct = engine_at(url, through_proxies=False)
    assert len(list(direct.generate(requests_of(direct, 2)))) == 2
    proxied = engine_at(url, retries=0)
    with pytest.raises(MullError, match="got no response"):
        list(proxied.generate(requests_of(proxied, 1)))


@pytest.mark.parametrize("concurrency", [1, 5])
def test_no_more_requests_are_under_way_than_asked_for(serve, tmp_path, concurrency):
    engine = engine_at(serve(log=str(tmp_path / "log"), seconds=0.02), concurrency=concurrency)
    assert len(list(engine.generate(requests_of(engine, 20)))) == 20
    assert max(entry["under_way"] for entry in logged(tmp_path / "log")) == concurrency


def test_faults_that_pass_cost_nothing_but_time(serve, tmp_path):
    faults = {"429": 0.1, "500": 0.1, "hang": 0.05, "break": 0.1, "garbage": 0.1, "abort": 0.1}
    engine = engine_at(serve(faults=faults, log=str(tmp_path / "log"), hang=600), timeout=3, retries=12)
    plain = engine_at(serve())
    found = {c.id: c.text for c in engine.generate(requests_of(engine, 120))}
    assert found == {c.id: c.text for c in plain.generate(requests_of(plain, 120))}
    met = Counter(entry["fault"] for entry in logged(tmp_path / "log"))
    assert all(met[fault] for fault in faults) and met[None] == 120


@pytest.fixture
def sent_at(monkeypatch):
    """When each try was sent, by the client's own clock."""
    times, once = [], ChatClient._once
    monkeypatch.setattr(ChatClient, "_once", lambda *given: (times.append(time.monotonic()), once(*given))[1])
    return times


def test_retry_after_is_obeyed_by_all_requests_to_that_server(serve, tmp_path, sent_at, monkeypatch):
    refusals, pause = [], ChatClient._pause
    monkeypatch.setattr(ChatClient, "_pause", lambda *given: (refusals.append(time.monotonic()), pause(*given))[1])
    engine = engine_at(serve(faults={"429-later": 0.2}, seed=3, log=str(tmp_path / "log")), concurrency=2, retries=20)
    assert len(list(engine.generate(requests_of(engine, 10)))) == 10
    assert len(refusals) == sum(entry["fault"] is not None for entry in logged(tmp_path / "log")) > 0
    for refused in refusals:
        assert not any(refused < sent < refused + 1 for sent in sent_at)


def test_the_rate_limit_spaces_requests(serve, sent_at):
    engine = engine_at(serve(), per_minute=1200)
    start = time.monotonic()
    list(engine.generate(requests_of(engine, 11)))
    assert len(sent_at) == 11
    assert all(sent - start >= 0.05 * i for i, sent in enumerate(sent_at))


def test_waits_grow(serve, tmp_path, monkeypatch):
    waits, sleep = [], asyncio.sleep
    monkeypatch.setattr(chat, "asyncio", SimpleNamespace(sleep=lambda wait: (waits.append(wait), sleep(0))[1]))
    engine = engine_at(serve(faults={"500": 1}, log=str(tmp_path / "log")), retries=4, backoff=0.1, concurrency=1)
    with pytest.raises(MullError, match=r"a request got no response: .*HTTP 500: later \(5 tries\)"):
        list(engine.generate(requests_of(engine, 3)))
    assert len(logged(tmp_path / "log")) == 5 and len(waits) == 4
    for wait, most in zip(waits, (0.1, 0.2, 0.4, 0.8), strict=True):
        assert 0.5 * most <= wait <= most


def test_requests_that_always_fail_do_not_stop_the_others(serve):
    bad = [(2**40 + i) % 2**31 for i in (0, 1, 30)]
    engine, done = engine_at(serve(poison=bad), retries=1, concurrency=4), []
    with pytest.raises(MullError, match=r"3 requests got no response.*mend the cause, and the same command asks"):
        for completion in engine.generate(requests_of(engine, 60)):
            done.append(int(completion.id))
    assert sorted(done) == [i for i in range(60) if i not in (0, 1, 30)]


def test_where_nothing_works_it_gives_up_after_a_round(serve, tmp_path):
    engine = engine_at(serve(refused=["seed"], log=str(tmp_path / "log")), concurrency=4)
    with pytest.raises(MullError, match=r"requests got no response: .*HTTP 400: Unrecognized .* seed"):
        list(engine.generate(requests_of(engine, 500)))
    assert len(logged(tmp_path / "log")) < 10


def test_a_server_that_dies_leaves_what_came(serve):
    engine, done = engine_at(serve(die_after=10), retries=1, concurrency=3), []
    with pytest.raises(MullError, match=r"got no response: .*no server answers there.*\(2 tries\)"):
        for completion in engine.generate(requests_of(engine, 50)):
            done.append(completion)
    assert 8 <= len(done) <= 10


@pytest.mark.parametrize(
    ("options", "variable", "message"),
    [
        ({"key": "right", "models": ["name@0", "name@1"]}, None, "asks for a key (HTTP 401"),
        ({"key": "right", "models": ["name@0", "name@1"]}, "sk-wrong", "refuses the key (HTTP 401"),
        ({"models": ["name@0", "nome@1"], "known": "name@0"}, None, "has no model 'name@1' (HTTP 404"),
        ({"models": ["name@0", "nome@1"], "known": "name@0"}, None, "Did you mean 'nome@1'?"),
        ({"known": "name@0"}, None, "has no model 'name@1' (HTTP 404"),
    ],
)
def test_what_is_wrong_shows_before_the_first_response(serve, monkeypatch, options, variable, message):
    if variable:
        monkeypatch.setenv("MULL_API_KEY", variable)
    with pytest.raises(MullError) as error:
        engine_at(serve(**options)).check()
    assert message in str(error.value)
    assert "sk-wrong" not in str(error.value)


def test_a_wrong_key_stops_at_once(serve, monkeypatch, tmp_path):
    monkeypatch.setenv("MULL_API_KEY", "sk-wrong")
    engine = engine_at(serve(key="right"))
    with pytest.raises(MullError, match=r"refuses the key \(HTTP 401: Incorrect API key provided: …\).*MULL_API_KEY"):
        list(engine.generate(requests_of(engine, 50)))


def test_a_key_reaches_the_server(serve, monkeypatch):
    monkeypatch.setenv("OTHER_KEY", "right\n")
    engine = engine_at(serve(key="right", models=["name@0", "name@1"]), key_variable="OTHER_KEY")
    engine.check()
    assert len(list(engine.generate(requests_of(engine, 2)))) == 2
    monkeypatch.setenv("OTHER_KEY", "ri\nght")
    with pytest.raises(MullError, match="OTHER_KEY holds characters no key has"):
        engine_at("http://127.0.0.1:1/v1", key_variable="OTHER_KEY")


def test_wrong_addresses(serve):
    url = serve(models=["name@0"])
    for wrong, message in (
        (url.replace("/v1", "/v2"), "/v2/chat/completions does not exist (HTTP 404). Give the base URL"),
        ("http://127.0.0.1:9/v1", "no server answers at http://127.0.0.1:9/v1"),
        ("http://nowhere.invalid/v1", "no server answers at http://nowhere.invalid/v1"),
        (url.replace("http:", "https:"), "no server answers at https:"),
    ):
        with pytest.raises(MullError) as error:
            engine_at(wrong).check()
        assert message in str(error.value)


def test_models_that_are_served_but_not_listed_are_accepted(serve):
    engine_at(serve(models=["name"])).check()
    engine_at(serve()).check()  # a server without a list


def test_a_limit_beyond_the_context_is_refused(serve):
    engine = engine_at(serve(models=["name@0", "name@1"], context=4096))
    engine.check(4000)
    with pytest.raises(MullError, match=r"8,192 tokens per response do not fit: 'name@0' at .* a context of 4,096"):
        engine.check(8192)


def test_a_server_that_does_not_count_tokens_is_refused(serve):
    engine = engine_at(serve(uncounted=True))
    with pytest.raises(MullError, match=r"no usage.completion_tokens"):
        list(engine.generate(requests_of(engine, 5)))


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_thoughts_that_a_server_splits_off_come_back(serve, field):
    split, whole = engine_at(serve(split=field)), engine_at(serve())
    [a], [b] = split.generate(requests_of(split, 1)), whole.generate(requests_of(whole, 1))
    assert a.text == b.text and a.text.startswith("<think>")


def test_fields_that_a_server_refuses_can_be_left_out(serve):
    url = serve(refused=["top_k"])
    with pytest.raises(MullError, match=r"HTTP 400: .* supplied: top_k.*--omit top_k leaves it out"):
        engine = engine_at(url)
        list(engine.generate(requests_of(engine, 1)))
    engine = engine_at(url, omit=["top_k"])
    assert len(list(engine.generate(requests_of(engine, 1)))) == 1


def test_a_dropped_iterator_cancels_what_is_under_way(serve):
    """All but the first few answers would take longer than a test may."""
    engine = engine_at(serve(hang_after=3, hang=3600), concurrency=4, timeout=3600)
    answers = engine.generate(requests_of(engine, 1000))
    next(answers)
    answers.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name == "mull-requests"]
