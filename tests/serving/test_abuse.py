"""Whatever is sent, the reply is an error as OpenAI's API shapes them, never a 500; and nothing leaves but that."""

from __future__ import annotations

import json
import random
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
GOOD = {"model": "mull@0", "messages": [{"role": "user", "content": "Add up 1 2."}], "max_tokens": 1}


def error(reply, status=400):
    assert reply.status_code == status, reply.text
    (name, said), *others = reply.json().items()
    assert name == "error" and others == [] and set(said) == {"message", "type", "param", "code"}
    assert said["message"] and "Traceback" not in reply.text and ".py" not in reply.text
    return said


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"\xff\xfe{}",
        b"\x00",
        "\ufeff{}".encode(),
        json.dumps(GOOD).encode("utf-16"),
        b"[" * 100_000,
        b'{"model":' * 50_000,
        json.dumps(GOOD)[:-1].encode() + b', "n": 1, "n": 2}',
        b'{"model": "mull@0", "messages": [{"role": "user", "content": "a", "content": "b"}]}',
        json.dumps(GOOD | {"temperature": float("nan")}).encode(),
        json.dumps(GOOD | {"lambda": float("inf")}).encode(),
        json.dumps(GOOD | {"top_p": float("-inf")}).encode(),
        b'{"model": "mull@0", "messages": [{"role": "user", "content": "a"}], "temperature": 1e999}',
        b'{"model": "mull@0", "messages": [{"role": "user", "content": "a"}], "seed": 1' + b"0" * 5000 + b"}",
        b'{"model": "mull@0", "messages": [{"role": "user", "content": "a"}], "lambda": 1' + b"0" * 400 + b"}",
        json.dumps(GOOD | {"messages": [{"role": "user", "content": "\ud800"}]}).encode(),
        json.dumps(GOOD | {"stop": "\udfff"}).encode(),
        json.dumps(GOOD | {"\ud800": 1}).encode(),
        json.dumps(GOOD | {"messages": [{"role": "user", "content": "a"}]}).encode("utf-8", "surrogatepass")[:-2]
        + b"\xed\xa0\x80",
    ],
)
def test_what_is_no_sound_json_object_is_refused(server, content):
    for path in (CHAT, TEXT, "/v1/lambda"):
        error(server.post(path, content=content))


@pytest.mark.parametrize(
    ("field", "value", "param"),
    [
        ("lambda", 2, "lambda"),
        ("lambda", "much", "lambda"),
        ("lambda", [[[[[]]]]], "lambda"),
        ("model", None, "model"),
        ("model", 5, "model"),
        ("model", "m" * 600, "model"),
        ("messages", [], "messages"),
        ("messages", "hello", "messages"),
        ("messages", [None], "messages.0"),
        ("messages", [{}], "messages.0.role"),
        ("messages", [{"role": "user", "content": 5}], "messages.0.content"),
        ("messages", [{"role": "user", "content": ["text"]}], "messages.0"),
        ("messages", [{"role": "nobody", "content": "x"}], "messages.0.role"),
        ("messages", [{"role": "user", "content": "x"}] * 2000, "messages"),
        ("n", 0, "n"),
        ("n", 10**6, "n"),
        ("n", True, "n"),
        ("n", "1", "n"),
        ("n", 1.5, "n"),
        ("seed", 10**30, "seed"),
        ("stop", ["a"] * 20, "stop"),
        ("stop", [""], "stop"),
        ("stop", 5, "stop"),
        ("stop", "x" * 1000, "stop"),
        ("max_tokens", 0, "max_tokens"),
        ("max_tokens", -5, "max_tokens"),
        ("max_completion_tokens", 10**12, "max_completion_tokens"),
        ("temperature", -0.1, "temperature"),
        ("temperature", "hot", "temperature"),
        ("temperature", 10**400, "temperature"),
        ("top_p", 0, "top_p"),
        ("top_p", 1.1, "top_p"),
        ("top_k", -2, "top_k"),
        ("logprobs", 1, "logprobs"),
        ("top_logprobs", 5, "top_logprobs"),
        ("stream", "true", "stream"),
        ("stream_options", {"include_usage": True}, "stream_options"),
        ("reasoning_effort", "enormous", "reasoning_effort"),
        ("thinking_token_budget", -1, "thinking_token_budget"),
        ("thinking_budget", 1.5, "thinking_budget"),
    ],
)
def test_wrong_values_are_refused_by_the_name_of_their_field(server, field, value, param):
    assert error(server.post(CHAT, GOOD | {field: value}))["param"] == param


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
        ("tool_choice", "auto"),
        ("functions", [{}]),
        ("response_format", {"type": "json_object"}),
        ("frequency_penalty", 0.5),
        ("presence_penalty", False),
        ("logit_bias", {"5": 100}),
        ("modalities", ["text", "audio"]),
        ("audio", {}),
        ("guided_json", {}),
        ("chat_template", "{{ messages }}"),
        ("chat_template_kwargs", {"enable_thinking": False}),
        ("lam", 0.5),
        ("x" * 1000, 1),
    ],
)
def test_what_is_not_supported_is_refused_by_name(server, field, value):
    said = error(server.post(CHAT, GOOD | {field: value}))
    assert said["param"] == field[:64] and field[:64] in said["message"]
    assert said["code"] in ("unsupported_parameter", "unknown_parameter")


def test_images_and_tools_in_messages_are_refused_by_name(server):
    image = {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}
    said = error(server.post(CHAT, GOOD | {"messages": [{"role": "user", "content": [image]}]}))
    assert "image_url" in said["message"]
    for message in (
        {"role": "tool", "content": "x", "tool_call_id": "1"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
    ):
        assert "tool" in error(server.post(CHAT, GOOD | {"messages": [message]}))["message"]
    empty = {"role": "assistant", "content": "x", "tool_calls": [], "function_call": None, "refusal": None}
    assert server.post(CHAT, GOOD | {"messages": [*GOOD["messages"], empty]}).status_code == 200


def test_fields_that_ask_for_nothing_are_taken(server):
    neutral = {"tools": [], "n": 1, "user": "me", "frequency_penalty": 0, "response_format": {"type": "text"}}
    assert server.post(CHAT, GOOD | neutral).status_code == 200


@pytest.mark.parametrize(
    "prompt",
    ["", [], [[]], [""], [-1], [10**9], [10**30], [True], [[1], "a"], [1, "a"], {"a": 1}, None, ["a"] * 100, [[10**6]]],
)
def test_wrong_prompts_of_text_completions(server, prompt):
    for stream in (False, True):
        for model in ("mull@0", "mull@auto"):
            error(server.post(TEXT, {"model": model, "prompt": prompt, "max_tokens": 1, "stream": stream}))


def test_prompts_beyond_the_context(server, ask):
    for words in (1000, 300_000):
        long = "one " * words
        said = error(server.post(CHAT, GOOD | {"messages": ask(long)}))
        assert said["code"] == "context_length_exceeded"
        error(server.post(TEXT, {"model": "mull@auto", "prompt": long}))
    assert server.post(CHAT, GOOD).status_code == 200


def test_bodies_that_are_too_long(server):
    long = b'{"model": "mull", "messages": [{"role": "user", "content": "' + b"x" * (5 << 20)
    with httpx2.Client(timeout=60) as client:
        assert error(client.post(f"{server.url}{CHAT}", content=long), 413)["code"] == "body_too_large"
        parts = (b"x" * 65536 for _ in range(100))
        assert error(client.post(f"{server.url}{CHAT}", content=parts), 413)


def test_any_character_is_text(server, ask):
    for text in (
        "\0",
        "a\0b",
        "\u202e",
        "🙂" * 20,
        "e\u0301",
        "\U0010ffff",
        "<think>",
        "</think>",
        "<|im_end|>",
        "{{ 7*7 }}",
    ):
        reply = server.post(CHAT, GOOD | {"messages": ask(text), "stop": [text]})
        assert reply.status_code == 200, (text, reply.text)
        assert server.post(TEXT, {"model": "mull@0", "prompt": text, "max_tokens": 1}).status_code == 200


def test_routes_and_methods_that_there_are_not(server):
    for path in ("/v1/responses", "/v1/embeddings", "/v1/images/generations", "/v1/audio/speech"):
        assert "not supported" in error(server.post(path, {"model": "mull"}), 404)["message"]
    error(httpx2.get(f"{server.url}/v1/nothing"), 404)
    error(httpx2.get(f"{server.url}{CHAT}"), 405)
    error(httpx2.request("DELETE", f"{server.url}/v1/models"), 405)
    error(httpx2.put(f"{server.url}{CHAT}", json=GOOD), 405)
    for path in ("/../../etc/passwd", "/v1/models/..%2f..%2fetc%2fpasswd", "/v1/models/mull@%00", "/%2e%2e/x", "/docs"):
        error(httpx2.get(f"{server.url}{path}"), httpx2.get(f"{server.url}{path}").status_code)
        assert httpx2.get(f"{server.url}{path}").status_code in (400, 404)


def test_no_request_makes_the_server_open_the_file_that_it_names(server, tmp_path, ask):
    canary = tmp_path / "canary.json"
    canary.write_text('{"model": "mull"}')
    opened = []
    sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event in ("open", "os.listdir") else None)
    for name in (str(canary), canary.as_uri(), f"mull@{canary}", "{% include '" + str(canary) + "' %}"):
        for field in ("model", "lambda", "reasoning_effort", "stop", "chat_template", "user", "x"):
            server.post(CHAT, GOOD | {field: name})
        server.post(CHAT, GOOD | {"messages": ask(name)})
        server.post(TEXT, {"model": "mull@0", "prompt": name, "max_tokens": 1})
        httpx2.get(f"{server.url}/v1/models/{name}")
    found = [path for path in opened if "canary" in path]
    assert found == []
    canary.read_text()
    assert any("canary" in path for path in opened)  # the hook does see it


def test_no_page_of_another_origin_is_let_in(server):
    headers = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    reply = httpx2.request("OPTIONS", f"{server.url}{CHAT}", headers=headers)
    assert reply.status_code == 405 and not [name for name in reply.headers if name.startswith("access-control")]
    reply = server.post(CHAT, GOOD, headers={"Origin": "http://evil.example"})
    assert not [name for name in reply.headers if name.startswith("access-control")]


def test_only_known_hosts_are_served(server, serve):
    def status(url, host):
        return httpx2.get(f"{url}/health", headers={"Host": host}).status_code

    for host in ("127.0.0.1:1", "localhost", "LOCALHOST:80", "[::1]:8000", "[::1]"):
        assert status(server.url, host) == 200
    for host in (
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "x@localhost",
    ):
        assert error(httpx2.get(f"{server.url}/health", headers={"Host": host}), 403)["code"] == "unknown_host"
    with serve(hosts=frozenset({"model.example"})) as named:
        assert status(named.url, "Model.Example:8000") == 200 and status(named.url, "other.example") == 403
    with serve(hosts=None) as any_host:
        assert status(any_host.url, "evil.example") == 200


def test_keys_are_compared_whole(serve):
    with serve(key="secret") as locked:
        for given in (None, "", "Bearer", "Bearer secre", "Bearer secrets", "secret", "Basic secret"):
            headers = {} if given is None else {"Authorization": given}
            assert error(locked.post(CHAT, GOOD, headers=headers), 401)["type"] == "authentication_error"
            assert httpx2.get(f"{locked.url}/metrics", headers=headers).status_code == 401
        assert error(locked.post(CHAT, GOOD, headers={"Authorization": b"Bearer secr\xe9t"}), 401)
        for given in ("Bearer secret", "bearer secret"):
            assert locked.post(CHAT, GOOD, headers={"Authorization": given}).status_code == 200


def test_a_failure_of_the_server_tells_nothing(serve, monkeypatch, ask):
    with serve() as server:

        async def fails(messages):
            raise RuntimeError("/secret/path.py")

        monkeypatch.setattr(server.service.backend, "render", fails)
        assert error(server.post(CHAT, GOOD), 500)["message"] == "the server failed"
        monkeypatch.undo()

        def broken(token):
            raise RuntimeError("/secret/path.py")

        monkeypatch.setattr(server.service.backend, "decode", broken)
        reply = server.post(CHAT, GOOD | {"logprobs": True, "max_tokens": 5})
        assert "secret" not in error(reply, 500)["message"]
        server.wait_until_free()
        assert server.post(CHAT, GOOD).status_code == 200


def test_half_a_request_holds_nothing_up(server):
    host, port = server.url.removeprefix("http://").split(":")
    for content in (
        b"",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{",
        b"\x16\x03\x01\x00",
    ):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(content)
    assert server.post(CHAT, GOOD).status_code == 200


VALUES = [
    None, True, False, 0, 1, -1, 2**63, 10**40, 0.5, 1e308, -0.0, "", "auto", "mull@0", "x" * 300, "\0", "🙂", "\ud800",
    [], [[]], {}, {"a": {"b": []}}, [None], ["a", 1], [1, 2], {"type": "text", "text": "x"}, {"type": "image_url"},
    [{"role": "user", "content": "hi"}], [{"role": "user", "content": [{"type": "text", "text": 1}]}],
    {"include_usage": 1},
]  # fmt: skip
FIELDS = [
    "model", "messages", "prompt", "lambda", "n", "seed", "stop", "max_tokens", "max_completion_tokens", "temperature",
    "top_p", "top_k", "logprobs", "top_logprobs", "stream", "stream_options", "reasoning_effort", "thinking_budget",
    "thinking_token_budget", "tools", "response_format", "user", "echo", "suffix", "anything", "", "\udc00",
]  # fmt: skip


def malformed(drawn):
    """A request with something wrong in it, mostly."""
    path = drawn.choice([CHAT, CHAT, TEXT, "/v1/lambda", "/v1/models/x", "/v1/responses", "/health"])
    body = dict(GOOD) if path != TEXT else {"model": "mull@0", "prompt": "Add up 1 2.", "max_tokens": 1}
    for _ in range(drawn.randrange(1, 4)):
        body[drawn.choice(FIELDS)] = drawn.choice(VALUES)
    if drawn.random() < 0.2:
        body.pop(drawn.choice(list(body)))
    content = bytearray(json.dumps(body).encode())
    if drawn.random() < 0.4:
        for _ in range(drawn.randrange(1, 4)):
            place = drawn.randrange(len(content) + 1)
            content[place : place + drawn.randrange(3)] = bytes(drawn.choices(range(256), k=drawn.randrange(3)))
    return drawn.choice(["POST"] * 9 + ["GET", "PUT", "PATCH"]), path, bytes(content)


def storm(server, count, seed):
    drawn = random.Random(seed)
    cases = [malformed(drawn) for _ in range(count)]
    with httpx2.Client(timeout=120) as client, ThreadPoolExecutor(8) as pool:
        statuses = list(
            pool.map(lambda case: client.request(case[0], server.url + case[1], content=case[2]).status_code, cases)
        )
    assert [case for case, status in zip(cases, statuses, strict=True) if status >= 500] == []
    assert statuses.count(400) > count / 3
    server.wait_until_free()
    assert server.post(CHAT, GOOD).status_code == 200


def test_malformed_requests_never_make_the_server_fail(server):
    storm(server, 500, 0)


@pytest.mark.slow
def test_ten_thousand_malformed_requests(server):
    storm(server, 10_000, 1)
