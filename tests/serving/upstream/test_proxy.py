"""The proxy before servers that answer as vLLM does: what they are sent, what comes back, and what goes wrong."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from contextlib import ExitStack, contextmanager

import httpx2
import openai
import pytest
from fastapi import Request

from mull.errors import MullError
from mull.serving.app import guarded
from mull.serving.backend import Limits
from mull.serving.front.front import Front
from mull.serving.levels import Levels, Undecided
from mull.serving.upstream.forwarder import Forwarder, Upstream
from mull.serving.upstream.opening import base_name, proxy_router
from tests.serving.behind import ANSWER, THOUGHT, Behind
from tests.serving.live import free_port, running

ASK = [{"role": "user", "content": "What is 3 + 4?"}]


class Proxy:
    def __init__(self, url, behind, forwarder, front):
        self.url, self.behind, self.forwarder, self.front = url, behind, forwarder, front

    @property
    def client(self):
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="mine", max_retries=0)

    def post(self, path="/v1/chat/completions", **body):
        return httpx2.post(f"{self.url}{path}", json={"messages": ASK, **body}, timeout=30)


@contextmanager
def proxied(count=1, *, urls=(), key=None, upstream_key=None, limits=None, seconds=10.0):
    """A proxy before so many servers, and before `urls`."""
    with ExitStack() as stack:
        behind = [Behind() for _ in range(count)]
        found = [Upstream(url) for url in urls]
        found += [Upstream(stack.enter_context(running(each.app))) for each in behind]
        forwarder = Forwarder(found, key=upstream_key, seconds=seconds)
        levels = Levels(model="mull", default=0.5, auto=False)
        front = Front(levels=levels, base="base", undecided=Undecided(0.3, 0.7), limits=limits or Limits())
        app = guarded(proxy_router(front, forwarder), key=key, hosts=frozenset(), close=forwarder.close)
        yield Proxy(stack.enter_context(running(app)), behind, forwarder, front)


@pytest.fixture(scope="module")
def proxy():
    with proxied() as found:
        yield found


def test_an_openai_client_is_answered_at_its_lambda(proxy):
    reply = proxy.client.chat.completions.create(
        model="mull@0.6", messages=ASK, temperature=0, extra_body={"thinking_budget": 40, "cache_salt": "s"}
    )
    message = reply.choices[0].message
    assert (message.reasoning, message.content) == ("".join(THOUGHT), "".join(ANSWER))
    assert message.reasoning_content == message.reasoning
    assert reply.model == "mull@0.6" and reply.mull == {"lambda": 0.6, "source": "model name", "budget": 40}
    assert reply.usage.completion_tokens_details.reasoning_tokens == 4
    body = proxy.behind[0].bodies[-1]
    assert body == {
        "messages": ASK,
        "model": "base",
        "temperature": 0,
        "thinking_token_budget": 40,
        "vllm_xargs": {"lambda": 0.6},
        "cache_salt": "lambda=0.6|s",
        "chat_template_kwargs": {"mull": {"thought": "hold", "tools": False}},
    }
    assert "authorization" not in proxy.behind[0].headers[-1]


def test_a_stream_of_the_openai_client(proxy):
    stream = proxy.client.chat.completions.create(
        model="mull", messages=ASK, reasoning_effort="max", stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    told = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in told) == "".join(THOUGHT)
    assert "".join(delta.content or "" for delta in told) == "".join(ANSWER)
    assert {chunk.model for chunk in chunks} == {"mull@1"}
    assert chunks[0].mull["lambda"] == 1 and chunks[-1].usage.total_tokens == 21
    assert "reasoning_effort" not in proxy.behind[0].bodies[-1]


def test_headers_of_a_reply(proxy):
    for stream in (False, True):
        reply = proxy.post(model="mull", **{"lambda": 0.25}, stream=stream)
        assert reply.headers["x-mull-lambda"] == "0.25"
    assert reply.headers["content-type"].startswith("text/event-stream")


def test_text_completions_and_responses(proxy):
    text = proxy.client.completions.create(model="mull@0.2", prompt="3 + 4 =")
    assert (text.model, text.choices[0].text, text.mull["lambda"]) == ("mull@0.2", "7", 0.2)
    assert proxy.behind[0].bodies[-1]["vllm_xargs"] == {"lambda": 0.2}
    whole = proxy.client.responses.create(model="mull", input="3 + 4?", reasoning={"effort": "none"})
    assert whole.model == "mull@0" and proxy.behind[0].bodies[-1]["reasoning"] == {}
    events = list(proxy.client.responses.create(model="mull@1", input="3 + 4?", stream=True))
    assert [event.type for event in events][:2] == ["response.created", "response.completed"]
    assert events[0].response.model == "mull@1"


def test_models_are_the_named_levels(proxy):
    names = [model.id for model in proxy.client.models.list()]
    assert names[:2] == ["mull", "mull@0"] and "mull@auto" not in names
    assert proxy.client.models.retrieve("mull@0.35").id == "mull@0.35"
    with pytest.raises(openai.NotFoundError):
        proxy.client.models.retrieve("base")


@pytest.mark.parametrize(
    "body", [{"lambda": "auto"}, {"lambda": 2}, {"model": "base"}, {"model": "mull@x"}, {"vllm_xargs": 1}]
)
def test_what_is_no_lambda_does_not_reach_the_server(proxy, body):
    before = len(proxy.behind[0].bodies)
    reply = proxy.post(**body)
    assert reply.status_code in (400, 404) and reply.json()["error"]["message"]
    assert len(proxy.behind[0].bodies) == before


def test_lambda_of_a_query_needs_an_estimator(proxy):
    assert proxy.post("/v1/lambda").status_code == 400


def test_a_choice_that_takes_too_long():
    class Slow:
        async def choose(self, asked):
            await asyncio.sleep(20)

    with proxied(limits=Limits(seconds=0.2)) as proxy:
        proxy.front.chooser, proxy.front.levels = Slow(), Levels(model="mull", default=None)
        assert proxy.post().status_code == 408 and proxy.front.under_way == 0


def test_errors_of_the_server_come_back_as_they_are(proxy):
    proxy.behind[0].status = 400
    try:
        with pytest.raises(openai.BadRequestError, match="told so by the test"):
            proxy.client.chat.completions.create(model="mull@0.6", messages=ASK)
    finally:
        proxy.behind[0].status = 200


def test_a_stream_comes_piece_by_piece_and_ends_for_the_server_when_its_client_leaves(proxy):
    behind = proxy.behind[0]
    behind.go_on = False
    try:
        with httpx2.stream(
            "POST", f"{proxy.url}/v1/chat/completions", json={"messages": ASK, "stream": True}, timeout=30
        ) as reply:
            lines = reply.iter_lines()
            first = [next(line for line in lines if line.startswith("data: ")) for _ in range(2)]
            assert json.loads(first[1][6:])["choices"][0]["delta"]["reasoning"] == THOUGHT[0]
            assert not behind.left.is_set()
        wait_for(behind.left.is_set)
        wait_for(lambda: proxy.front.under_way == 0)
    finally:
        behind.go_on = True
        behind.left.clear()


def test_a_client_that_leaves_before_the_reply_leaves_the_server():
    class Slow(Behind):
        async def chat_completions(self, request: Request):
            await self._body(request)
            while not await request.is_disconnected():
                await asyncio.sleep(0.01)
            self.left.set()
            return

    slow = Slow()
    with running(slow.app) as url, proxied(0, urls=[url]) as proxy:
        content = json.dumps({"messages": ASK}).encode()
        host, port = proxy.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
            wait_for(lambda: len(slow.bodies) == 1)
        wait_for(slow.left.is_set)
        wait_for(lambda: proxy.front.under_way == 0)


def wait_for(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_servers_are_taken_in_turns():
    with proxied(3) as proxy:
        for _ in range(6):
            assert proxy.post().status_code == 200
        assert [len(each.bodies) for each in proxy.behind] == [2, 2, 2]


def test_a_server_that_is_down_is_passed_over_and_left_alone_for_a_while():
    with proxied(2, urls=[f"http://127.0.0.1:{free_port()}"]) as proxy:
        assert [proxy.post().status_code for _ in range(6)] == [200] * 6
        down = proxy.forwarder.upstreams[0]
        assert down.cooling and proxy.forwarder._turns()[-1] is down
        assert httpx2.get(f"{proxy.url}/health").status_code == 200


@pytest.mark.parametrize("status", [429, 502, 503])
def test_a_busy_server_is_passed_over_as_long_as_another_is_left(status):
    with proxied(2) as proxy:
        proxy.behind[0].status = status
        assert [proxy.post().status_code for _ in range(4)] == [200] * 4
        proxy.behind[1].status = status
        reply = proxy.post()
        assert reply.status_code == status and reply.headers["retry-after"] == "3"


def test_health_is_that_of_the_servers_behind():
    with proxied(1, urls=[f"http://127.0.0.1:{free_port()}"]) as proxy:
        down, up = proxy.forwarder.upstreams
        up.failed_at = time.monotonic()
        assert httpx2.get(f"{proxy.url}/health").json() == {"status": "ok"}
        assert down.cooling and not up.cooling


def test_no_server_at_all():
    with proxied(0, urls=[f"http://127.0.0.1:{free_port()}"]) as proxy:
        assert httpx2.get(f"{proxy.url}/health").status_code == 503  # before anybody has asked for anything
        for stream in (False, True):
            reply = proxy.post(stream=stream)
            assert reply.status_code == 502 and reply.json()["error"]["code"] == "upstream_unavailable"
        wait_for(lambda: proxy.front.under_way == 0)


def test_a_request_under_way_is_not_given_to_another_server():
    with proxied(2) as proxy:
        for each in proxy.behind:
            each.break_at = 3
        stream = proxy.client.chat.completions.create(model="mull@1", messages=ASK, stream=True)
        with pytest.raises(openai.APIError, match="broke off"):
            list(stream)
        assert sum(len(each.bodies) for each in proxy.behind) == 1


def test_a_server_that_is_silent_for_too_long():
    class Silent(Behind):
        async def chat_completions(self, request: Request):
            await asyncio.sleep(20)

    with running(Silent().app) as url, proxied(0, urls=[url], seconds=0.3) as proxy:
        assert proxy.post().status_code == 504


def test_keys_of_both_sides():
    with proxied(key="mine", upstream_key="theirs") as proxy:
        assert proxy.post().status_code == 401
        proxy.client.chat.completions.create(model="mull@1", messages=ASK)
        assert proxy.behind[0].headers[-1]["authorization"] == "Bearer theirs"


def test_limits():
    with proxied(limits=Limits(waiting=1, body_bytes=2000)) as proxy:
        assert proxy.post(padding="x" * 3000).status_code == 413
        proxy.behind[0].go_on = False
        with httpx2.stream("POST", f"{proxy.url}/v1/chat/completions", json={"messages": ASK, "stream": True}) as reply:
            lines = reply.iter_lines()
            next(lines)
            assert proxy.post().status_code == 429
            lines.close()
        wait_for(lambda: proxy.front.under_way == 0)
        proxy.behind[0].go_on = True
        assert proxy.post().status_code == 200


def test_metrics(proxy):
    proxy.post(model="mull@0.9")
    told = httpx2.get(f"{proxy.url}/metrics").text
    assert 'mull_requests_total{route="chat",status="200"}' in told and "mull_lambda_bucket" in told
    assert 'mull_generated_tokens_total{kind="reasoning"}' in told


def test_other_routes_are_not_handed_on(proxy):
    assert httpx2.post(f"{proxy.url}/v1/load_lora_adapter", json={}).status_code == 404


@pytest.mark.parametrize("url", ["gpu-1:8000", "ftp://gpu-1", "http://", "http://a:b@gpu", "http://gpu:99999"])
def test_what_is_no_address_is_refused(url):
    with pytest.raises(MullError, match="no address"):
        Upstream(url)


def test_the_name_of_the_pair_is_asked_for():
    one, other = Behind("pair"), Behind("another")
    with running(one.app) as first, running(other.app) as second:
        assert base_name([Upstream(f"{first}/v1/")], None) == "pair"
        assert base_name([Upstream(f"http://127.0.0.1:{free_port()}"), Upstream(first)], None) == "pair"
        with pytest.raises(MullError, match="does not serve 'pair'"):
            base_name([Upstream(first), Upstream(second)], None)
    with pytest.raises(MullError, match="--upstream-model"):
        base_name([Upstream(first)], None)
