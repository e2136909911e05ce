"""A request for the server behind: λ as vLLM's plugin reads it, the base name, and all else as it was."""

from __future__ import annotations

import pytest

from mull.engines.vllm.marks import Reading
from mull.serving.front.rewriting import Route, reading, rewritten, wish_of
from mull.serving.levels import Levels, Undecided
from mull.serving.wire.errors import ApiError

LEVELS = Levels(model="mull", default=0.5)
KNOWN = Undecided(0.3, 0.7)


def rewrite(body, route=Route.chat, lam=0.6):
    return rewritten(body, route, base="base", lam=lam, undecided=KNOWN)


def test_only_what_mull_reads_is_translated():
    kept = {
        "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}],
        "tools": [{"type": "function", "function": {"name": "add"}}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
        "logprobs": True,
        "seed": 1 << 62,
        "unheard_of": [1],
    }
    new = rewrite({"model": "mull@0.6", "lambda": 0.6, "reasoning_effort": "low", "thinking_budget": 9, **kept})
    assert {name: new[name] for name in kept} == kept
    assert new.keys() - kept.keys() == {
        "model", "vllm_xargs", "cache_salt", "thinking_token_budget", "chat_template_kwargs"
    }  # fmt: skip
    assert new["model"] == "base" and new["vllm_xargs"] == {"lambda": 0.6} and new["thinking_token_budget"] == 9


def test_what_the_client_gives_beside_is_kept():
    given = {"vllm_xargs": {"other": 1}, "cache_salt": "mine", "chat_template_kwargs": {"enable_thinking": True}}
    new = rewrite(given)
    assert new["vllm_xargs"] == {"other": 1, "lambda": 0.6} and new["cache_salt"] == "lambda=0.6|mine"
    assert new["chat_template_kwargs"]["enable_thinking"] is True
    assert given["vllm_xargs"] == {"other": 1}
    again = rewrite(new)  # a front before a front
    assert again["cache_salt"] == "lambda=0.6|mine" and again["vllm_xargs"] == new["vllm_xargs"]


def test_lambda_of_a_front_before_this_one_counts():
    assert wish_of({"model": "mull", "vllm_xargs": {"lambda": 0.2}}, Route.chat, LEVELS).lam == 0.2
    assert wish_of({"model": "mull@0.9", "lambda": 0.1, "vllm_xargs": {"lambda": 0.2}}, Route.chat, LEVELS).lam == 0.1
    assert wish_of({}, Route.completions, LEVELS) == (0.5, "default")


def test_effort_of_responses_stands_in_reasoning():
    body = {"model": "mull", "reasoning": {"effort": "max", "summary": "auto"}, "input": "hi"}
    assert wish_of(body, Route.responses, LEVELS).lam == 1
    new = rewrite(body, Route.responses)
    assert new["reasoning"] == {"summary": "auto"}
    with pytest.raises(ApiError, match="not supported by /v1/responses"):
        rewrite({"thinking_token_budget": 5}, Route.responses)


@pytest.mark.parametrize(
    "body",
    [
        {"model": 3},
        {"model": "other"},
        {"lambda": 1.5},
        {"lambda": "high"},
        {"vllm_xargs": {"lambda": "0.5"}},
        {"vllm_xargs": [1]},
        {"reasoning_effort": 3},
        {"reasoning_effort": "0.3"},
    ],
)
def test_what_is_no_lambda_is_refused(body):
    with pytest.raises(ApiError):
        wish_of(body, Route.chat, LEVELS)


@pytest.mark.parametrize("body", [{"cache_salt": 3}, {"chat_template_kwargs": "x"}])
def test_what_cannot_be_translated_is_refused(body):
    with pytest.raises(ApiError):
        rewrite(body)


def test_text_completions_have_no_mark_for_a_parser():
    new = rewrite({"prompt": "x"}, Route.completions)
    assert "chat_template_kwargs" not in new


def test_how_a_response_is_read_depends_on_lambda_and_on_what_is_asked():
    json_only = {"response_format": {"type": "json_object"}}

    def read(lam, body=None, tools=False):
        return reading(body or {}, lam, KNOWN, tools=tools)

    assert [read(lam) for lam in (0.3, 0.5, 0.7)] == [Reading.direct, Reading.hold, Reading.sure]
    assert [read(lam, json_only) for lam in (0.3, 0.5, 0.7)] == [Reading.plain, Reading.plain, Reading.sure]
    assert [read(lam, tools=True) for lam in (0.3, 0.5, 0.7)] == [Reading.plain, Reading.hold, Reading.sure]
    assert read(0.5, {"text": {"format": {"type": "json_schema"}}}) is Reading.plain
    assert read(0.5, {"response_format": {"type": "text"}, "tool_choice": "auto"}) is Reading.hold
    assert read(0.5, {"tool_choice": "required"}) is Reading.plain
