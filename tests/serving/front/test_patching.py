"""A reply for the client: the λ it has, and the thought under both names, in whatever pieces it comes."""

from __future__ import annotations

import json

import pytest

from mull.serving.front.patching import Patch
from mull.serving.front.rewriting import Route

SAID = {"lambda": 0.6, "source": "lambda", "budget": None}


def patch(route=Route.chat):
    return Patch(route, "mull@0.6", SAID)


def chunk(delta, finish=None, index=0):
    return {"model": "base", "choices": [{"index": index, "delta": delta, "finish_reason": finish}]}


def events(chunks):
    return b"".join(b"data: " + json.dumps(each, ensure_ascii=False).encode() + b"\n\n" for each in chunks)


def read(content):
    lines = [line for line in content.decode().split("\n\n") if line.startswith("data: {")]
    return [json.loads(line[6:]) for line in lines]


def test_a_whole_reply():
    message = {"role": "assistant", "content": "7", "reasoning": "3 + 4"}
    reply = patch().whole({"model": "base", "choices": [{"message": message}], "usage": {"prompt_tokens": 3}})
    assert reply["model"] == "mull@0.6" and reply["mull"] == SAID
    assert reply["choices"][0]["message"]["reasoning_content"] == "3 + 4"


@pytest.mark.parametrize("names", [("reasoning", "reasoning_content"), ("reasoning_content", "reasoning")])
def test_the_thought_has_both_names_whichever_the_server_gives(names):
    one, other = names
    (found,) = read(patch().push(events([chunk({one: "hm"})])))
    assert found["choices"][0]["delta"][other] == "hm"


@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
@pytest.mark.parametrize("line", [b"\n", b"\r\n"])
def test_a_stream_in_any_pieces(size, line):
    chunks = [
        chunk({"role": "assistant"}),
        chunk({"reasoning": "Grüße, λ"}),
        chunk({"content": "7"}),
        chunk({}, "stop"),
    ]
    content = (b": keep-alive\n\n" + events(chunks) + b"data: [DONE]\n\n").replace(b"\n", line)
    patched = patch()
    found = b"".join(patched.push(content[i : i + size]) for i in range(0, len(content), size)) + patched.finish()
    assert found.startswith(b": keep-alive\n\n") and found.endswith(b"data: [DONE]\n\n")
    got = read(found)
    assert [each["model"] for each in got] == ["mull@0.6"] * 4
    assert [each.get("mull") for each in got] == [SAID, None, None, SAID]
    assert got[1]["choices"][0]["delta"]["reasoning_content"] == "Grüße, λ"


def test_each_choice_says_its_lambda_at_both_ends():
    chunks = [chunk({"content": ""}, index=i) for i in (0, 1)] + [chunk({}, "stop", index=i) for i in (1, 0)]
    assert ["mull" in each for each in read(patch().push(events(chunks)))] == [True] * 4


def test_an_answer_that_was_told_as_a_thought_is_marked():
    chunks = [
        chunk({"reasoning": "The sum "}),
        chunk({"reasoning": "is 7."}),
        chunk({"content": "The sum is 7."}, "stop"),
    ]
    *_, last = read(patch().push(events(chunks)))
    assert last["mull"] == {**SAID, "corrected": True}
    chunks[-1] = chunk({"content": "7"}, "stop")
    assert "corrected" not in read(patch().push(events(chunks)))[-1]["mull"]


def test_an_error_in_a_stream_stays_as_it_is():
    error = {"error": {"message": "no", "code": 500}}
    assert read(patch().push(events([error]))) == [error]


def test_events_of_responses():
    patched = patch(Route.responses)
    event = b'event: response.created\ndata: {"type":"response.created","response":{"model":"base"}}\n\n'
    found = patched.push(event)
    assert found.startswith(b"event: response.created\ndata: ")
    assert json.loads(found.split(b"data: ")[1])["response"] == {"model": "mull@0.6", "mull": SAID}
    delta = b'event: response.output_text.delta\ndata: {"delta":"7"}\n\n'
    assert patched.push(delta) == delta
