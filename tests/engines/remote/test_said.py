"""What servers say, over real connections: errors in replies, streams, other names of the limit, hostile bodies."""

import gzip
import itertools
import time

import pytest

from mull.engines.base import Request, Sampling
from mull.engines.remote import engine, transport
from mull.engines.remote.endpoints import Endpoints
from mull.engines.remote.engine import RemoteEngine
from mull.errors import MullError
from mull.merging.coefficients import Coefficients

from .scripted import events, head, http

GOOD = {
    "choices": [{"index": 0, "message": {"content": "It is 7."}, "finish_reason": "stop"}],
    "usage": {"completion_tokens": 9},
}
STREAM = (
    {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "It is"}}]},
    {"choices": [{"index": 0, "delta": {"content": " 7."}, "finish_reason": "stop"}]},
    {"choices": [], "usage": {"completion_tokens": 9}},
    b"[DONE]",
)
SSE = "text/event-stream; charset=utf-8"


def engine_at(server, omit=(), **options):
    endpoints = Endpoints.pattern(server.url, "name@{lambda}", [1], omit)
    found = RemoteEngine(endpoints, **{"backoff": 0.01, "retries": 1, "concurrency": 1, **options})
    found.set_weights(Coefficients.scalar(1))
    return found


def asking(server, count=1, **options):
    found = engine_at(server, **options)
    prompt = found.render([{"role": "user", "content": "7?"}])
    sampling = Sampling(max_tokens=64)
    return found.generate(Request(id=str(i), prompt_ids=prompt, seed=i, sampling=sampling) for i in range(count))


def ask(server, count=1, **options):
    return list(asking(server, count, **options))


def test_an_error_in_a_reply_is_obeyed_like_a_status(say):
    temporary = say(http({"error": {"code": 429, "message": "later"}}), http(GOOD))
    assert [found.text for found in ask(temporary)] == ["It is 7."] and len(temporary.requests) == 2
    lasting = say(http({"error": {"code": 502, "message": "the provider is down"}}))
    with pytest.raises(MullError, match=r"error 502 in the reply: the provider is down \(2 tries\)"):
        ask(lasting)
    refused = say(http({"error": {"type": "invalid_request_error", "message": "no λ here"}}))
    with pytest.raises(MullError, match=r"refuses a request \(error 400 in the reply: no λ here\)"):
        ask(refused)
    assert len(refused.requests) == 1
    for wrong, why in (
        ({"code": "invalid_api_key", "message": "who?"}, "asks for a key"),
        ({"code": 404, "message": "no such model"}, "has no model 'name@1'"),
    ):
        server = say(http({"error": wrong}))
        with pytest.raises(MullError, match=why):
            ask(server, 5)
        assert len(server.requests) == 1
        with pytest.raises(MullError, match=why):
            engine_at(server).check()


@pytest.mark.parametrize(
    "limited",
    [
        http({"error": {"code": 429, "message": "m"}}, **{"Retry-After": "0.4"}),
        http({"error": {"code": 429, "message": "m", "retry_after": 0.4}}),
    ],
)
def test_an_error_in_a_reply_may_say_when_to_come_again(say, limited):
    began = time.monotonic()
    assert len(ask(say(limited, http(GOOD)))) == 1 and time.monotonic() - began >= 0.4


def test_a_filter_on_one_prompt_is_not_taken_for_a_wrong_key(say):
    server = say(http({"error": {"code": 403, "message": "input flagged by moderation"}}, 403), http(GOOD))
    with pytest.raises(MullError, match=r"a request got no response: .*refuses a request \(HTTP 403"):
        ask(server, 3, concurrency=2)
    assert len(server.requests) == 3


def test_endings_that_are_no_answer_are_asked_for_again_or_named(say):
    cut = {**GOOD, "choices": [{**GOOD["choices"][0], "finish_reason": "insufficient_system_resource"}]}
    server = say(http(cut), http(GOOD))
    assert len(ask(server)) == 1 and len(server.requests) == 2
    filtered = {**GOOD, "choices": [{**GOOD["choices"][0], "finish_reason": "content_filter"}]}
    server = say(http(filtered), http(GOOD))
    done = []
    with pytest.raises(MullError, match=r"a request got no response: .*a filter took the content away"):
        for found in asking(server, 3, concurrency=2):
            done.append(found.text)
    assert done == ["It is 7."] * 2 and len(server.requests) == 3


def test_a_count_above_the_limit_that_was_sent_is_refused(say):
    with pytest.raises(MullError, match=r"counts 900 tokens, which cannot be true: the limit was 64"):
        ask(say(http({**GOOD, "usage": {"completion_tokens": 900}})))
    [found] = ask(say(http({**GOOD, "usage": {"completion_tokens": 900}})), omit=["max_tokens"])
    assert found.tokens == 900


@pytest.mark.parametrize("kind", [SSE, "text/plain", "application/json"])
def test_a_stream_is_asked_for_and_read(say, kind):
    server = say(head(kind=kind) + events(*STREAM))
    [found] = ask(server, stream=True)
    assert (found.text, found.tokens, found.finish) == ("It is 7.", 9, "stop")
    [request] = server.requests
    assert request["stream"] is True and request["stream_options"] == {"include_usage": True}
    server = say(head(kind=kind) + events(*STREAM))
    assert ask(server)[0].text == "It is 7."  # from a server that only streams, unasked
    assert server.requests[0]["stream"] is False and "stream_options" not in server.requests[0]


def test_a_server_that_refuses_stream_options_or_does_not_stream_gets_along(say):
    server = say(http(GOOD))
    assert ask(server, stream=True, omit=["stream_options"])[0].text == "It is 7."
    assert "stream_options" not in server.requests[0] and server.requests[0]["stream"] is True
    plan = Endpoints.pattern(server.url, "name@{lambda}", [1], ["stream_options", "top_k"]).record()
    assert plan["omitted"] == ["top_k"]


def test_after_its_end_a_stream_is_not_waited_for(say):
    def endless():
        yield head(kind=SSE) + events(*STREAM)
        while True:
            time.sleep(0.01)
            yield b": still here\n\n"

    assert ask(say(endless), stream=True, timeout=3600)[0].text == "It is 7."


def test_a_stream_that_breaks_off_or_ends_in_an_error_is_asked_for_again(say):
    for broken in (
        head(kind=SSE) + events(*STREAM[:1]),
        head(kind=SSE, **{"Transfer-Encoding": "chunked"}) + b"20\r\n" + events(*STREAM[:1])[:20],
        head(kind=SSE) + events(*STREAM[:1], {"error": {"code": 503, "message": "no memory"}}),
    ):
        server = say(broken, head(kind=SSE) + events(*STREAM))
        assert ask(server, stream=True)[0].text == "It is 7." and len(server.requests) == 2
    refused = say(head(kind=SSE) + events(*STREAM[:1], {"error": {"code": 400, "message": "too long"}}))
    with pytest.raises(MullError, match=r"refuses a request \(error 400 in the reply: too long\)"):
        ask(refused, stream=True)
    assert len(refused.requests) == 1


@pytest.mark.parametrize(
    ("message", "hint"),
    [
        ("Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
         "--max-completion-tokens sends the limit under that name"),
        ("Unrecognized request argument supplied: max_tokens", "--omit max_tokens leaves it out"),
        ("This model only supports stream mode, please enable the stream parameter", "--stream asks for a stream"),
        ("Unknown parameter: 'stream_options'", "--omit stream_options leaves it out"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_option_that_avoids_it(say, message, hint):
    with pytest.raises(MullError) as error:
        ask(say(http({"error": {"message": message}}, 400)))
    assert hint in str(error.value)


def test_a_limit_that_is_too_large_is_not_advised_to_be_left_out(say):
    with pytest.raises(MullError) as error:
        ask(say(http({"error": {"message": "max_tokens is too large: 99. The context has 64"}}, 400)))
    assert "--omit" not in str(error.value)


def test_the_limit_goes_by_either_name_or_by_none(say):
    server = say(http(GOOD))
    ask(server)
    ask(server, limit_field="max_completion_tokens")
    ask(server, omit=["max_tokens"])
    ask(server, omit=["max_tokens"], limit_field="max_completion_tokens")
    sent = [{key: value for key, value in each.items() if key.startswith("max_")} for each in server.requests]
    assert sent == [{"max_tokens": 64}, {"max_completion_tokens": 64}, {}, {}]
    server = say(http(GOOD))
    engine_at(server, limit_field="max_completion_tokens", stream=True).check()  # asks for one token
    assert server.requests[0]["max_completion_tokens"] == 1 and server.requests[0]["stream"] is True


def test_a_redirection_is_not_followed_with_the_key(say, monkeypatch):
    monkeypatch.setenv("MULL_API_KEY", "sk-secret")
    other = say(http(GOOD))
    server = say(http({}, 307, Location=f"{other.url}/chat/completions"))
    with pytest.raises(MullError, match=r"does not exist \(HTTP 307: it leads to http://127"):
        ask(server)
    assert server.requests[0]["headers"]["authorization"] == "Bearer sk-secret" and not other.requests


def endless(first, again):
    return lambda: itertools.chain([first], itertools.repeat(again))


MIB = b" " * 2**20
HOSTILE = {
    "body": endless(head(), MIB),
    "error body": endless(head(400), MIB),
    "text": endless(head(kind="text/html"), b"x" * 2**20),
    "chunked body": endless(head(**{"Transfer-Encoding": "chunked"}), b"100000\r\n" + MIB + b"\r\n"),
    "packed body": lambda: [http(gzip.compress(MIB * 64), **{"Content-Encoding": "gzip"})],
    "packed twice": lambda: [http(gzip.compress(gzip.compress(MIB)), **{"Content-Encoding": "gzip, gzip"})],
    "headers": endless(b"HTTP/1.1 200 OK\r\n", b"X-Long: " + b"x" * 2**16 + b"\r\n"),
    "a header": endless(b"HTTP/1.1 200 OK\r\nX-Long: ", b"x" * 2**16),
    "events": endless(head(kind=SSE), events(*STREAM[:1]) * 2**12),
    "comments": endless(head(kind=SSE), b": x\n\n" * 2**16),
    "an event": endless(head(kind=SSE) + b"data: ", b"x" * 2**20),
    "lines of an event": endless(head(kind=SSE), b"data: x\n" * 2**16),
    "packed events": lambda: [head(kind=SSE, **{"Content-Encoding": "gzip"}) + gzip.compress(MIB * 64)],
    "depth": lambda: [http(b"[" * 10**6)],
    "an integer": lambda: [http(b'{"choices": ' + b"9" * 10**6 + b"}")],
    "no JSON": lambda: [http(b"\x00\xff" * 100)],
    "no HTTP": lambda: [b"\x00\xff" * 100],
    "nothing": lambda: [b""],
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("stream", [False, True])
def test_what_a_server_sends_is_bounded(say, name, stream, monkeypatch):
    monkeypatch.setattr(transport, "LARGEST_STREAM", 4 << 20)
    server = say(HOSTILE[name])
    with pytest.raises(MullError, match=r"a request got no response") as error:
        ask(server, stream=stream, retries=0, timeout=3600)
    assert len(str(error.value)) < 600 and server.sent < 64 << 20


DRIPS = {
    "body": (head(), b" "),
    "a header": (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
    "first responses": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "comments": (head(kind=SSE), b":\n\n"),
    "events": (head(kind=SSE), events(*STREAM[:1])),
}


def drip(first, again):
    def say():
        yield first
        while True:
            time.sleep(0.01)
            yield again

    return say


@pytest.mark.parametrize("name", DRIPS)
def test_the_time_of_a_response_is_bounded_as_a_whole(say, name):
    with pytest.raises(MullError, match=r"no whole answer within 0.3 seconds"):
        ask(say(drip(*DRIPS[name])), retries=0, timeout=0.3)


@pytest.mark.parametrize("name", DRIPS)
def test_the_time_of_the_check_is_bounded_too(say, name, monkeypatch):
    monkeypatch.setattr(engine, "CHECK_SECONDS", 0.3)
    with pytest.raises(MullError, match=r"does not answer in time"):
        engine_at(say(drip(*DRIPS[name]))).check()
