"""One batch for all: a step costs one forward whatever its λ, company changes no text, who leaves frees a row."""

from __future__ import annotations

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import openai
import pytest

LAMS = (0, 0.1, 0.25, 0.4, 0.5, 0.6, 0.8, 1)


@pytest.fixture
def forwards(server):
    """The numbers of rows of all forwards of the model."""
    rows = []
    hook = server.engine.model.register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    yield rows
    hook.remove()


def body(ask, lam, tokens=40, **more):
    return {
        "model": "mull",
        "messages": ask(f"Add up 1 2 3 {int(lam * 10)}."),
        "lambda": lam,
        "max_tokens": tokens,
    } | more


def text(server, given):
    found = server.post("/v1/chat/completions", given)
    assert found.status_code == 200, found.text
    message = found.json()["choices"][0]["message"]
    return message["reasoning"], message["content"]


def test_eight_lambdas_are_one_batch_and_each_text_is_that_asked_alone(server, ask, forwards):
    bodies = [body(ask, lam, seed=i, temperature=0.9, top_p=1) for i, lam in enumerate(LAMS)]
    alone = [text(server, each) for each in bodies]
    separate = len(forwards)
    forwards.clear()
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda each: text(server, each), bodies))
    assert together == alone
    # 40 steps and a prefill a prompt, and a few steps before all have arrived; one after the other it was 8 times that.
    assert len(forwards) < separate / 3 and len(forwards) <= 40 + 8 + 24


def test_auto_is_probed_in_the_batch(server, ask):
    def chosen(i):
        return server.post("/v1/lambda", {"messages": ask(f"Add up 4 {i}.")}).json()["mull"]["lambda"]

    with ThreadPoolExecutor(6) as pool:
        long = [pool.submit(text, server, body(ask, 1, tokens=150)) for _ in range(3)]
        lams = [each.result() for each in [pool.submit(chosen, i) for i in range(3)]]
        assert all(each.result() for each in long)
    assert lams == [chosen(i) for i in range(3)]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("lam", [0.5, 1])
def test_a_client_that_leaves_frees_its_rows(server, ask, stream, lam):
    # No end of text within these tokens: as the likeliest of many choices are drawn, responses run on.
    given = body(ask, lam, tokens=900, n=4, temperature=2.0, top_p=1.0, stream=stream)
    content = json.dumps(given).encode()
    host = server.url.removeprefix("http://")
    with socket.create_connection(tuple(host.split(":"))) as connection:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        while server.service.backend.under_way < 4:
            time.sleep(0.001)
    began = time.monotonic()
    server.wait_until_free()
    assert time.monotonic() - began < 3
    assert text(server, body(ask, 0.5))


def test_a_full_queue_is_refused_with_the_time_to_wait(serve, ask):
    gate = threading.Event()
    with serve(waiting=2) as small, ThreadPoolExecutor(1) as pool:
        hook = small.engine.model.register_forward_pre_hook(lambda *_: gate.wait() and None)
        try:
            held = pool.submit(small.post, "/v1/chat/completions", body(ask, 1, 5, n=2))
            while small.service.backend.under_way < 2:
                time.sleep(0.001)
            for stream in (True, False):
                refused = small.post("/v1/chat/completions", body(ask, 0, stream=stream))
                assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
                assert refused.json()["error"]["type"] == "rate_limit_error"
            with pytest.raises(openai.RateLimitError):
                small.client.chat.completions.create(model="mull@auto", messages=ask())
        finally:
            gate.set()
            hook.remove()
        assert held.result().status_code == 200
        small.wait_until_free()
        assert small.post("/v1/chat/completions", body(ask, 0)).status_code == 200
        assert small.post("/v1/chat/completions", body(ask, 0, n=3)).status_code == 400  # never


def test_a_response_that_takes_too_long_is_ended(serve, ask):
    with serve(seconds=0.2) as hasty:
        late = hasty.post("/v1/chat/completions", body(ask, 1, 900))
        assert late.status_code == 408 and late.json()["error"]["code"] == "timeout"
        late = hasty.post("/v1/chat/completions", body(ask, 1, 900, stream=True))
        assert late.status_code == 200
        last = [line for line in late.text.splitlines() if line][-1]
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "timeout"
        hasty.wait_until_free()


def test_a_server_that_ends_says_so_to_those_under_way(serve, ask):
    with ThreadPoolExecutor(1) as pool:
        with serve() as server:
            found = pool.submit(server.post, "/v1/chat/completions", body(ask, 1, 900, n=8, temperature=2, top_p=1))
            while server.service.backend.under_way < 8:
                time.sleep(0.001)
            server.service.backend.close()
            assert found.result().status_code == 503
        with pytest.raises(httpx2.TransportError):
            server.post("/v1/chat/completions", body(ask, 0))
