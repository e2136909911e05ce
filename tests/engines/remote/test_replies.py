"""What is an answer and what is not: endings, token counts, shapes of content, errors in replies of status 200."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mull.engines.remote.events import StreamedReply
from mull.engines.remote.refusals import ErrorReply, RequestRefused, TemporaryError, Unanswered
from mull.engines.remote.replies import read_reply
from mull.errors import MullError
from mull.thinking import split_thinking

from .scripted import events

KEYS = [
    "content", "reasoning", "reasoning_details", "refusal", "tool_calls", "type", "text", "thinking", "message",
    "delta", "code", "error", "detail", "metadata", "raw", "retry_after", "finish_reason", "index", "usage",
    "prompt_tokens", "completion_tokens", "total_tokens", "completion_tokens_details", "reasoning_tokens", "timings",
    "predicted_n",
]  # fmt: skip


def reply(content="It is 7.", finish="stop", usage=None, **message):
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}
    return {"choices": [choice], "usage": {"completion_tokens": 12} if usage is None else usage}


def parts_of(found):
    split = split_thinking(found.text, finished=found.finish == "stop")
    return split.kind, split.thought, split.answer


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("stop", "stop"), ("eos", "stop"), ("eos_token", "stop"), ("end_turn", "stop"), ("stop_sequence", "stop"),
        ("STOP", "stop"), ("eosFound", "stop"), ("stopStringFound", "stop"), ({"type": "stop"}, "stop"),
        ("COMPLETE", "stop"), ("length", "length"), ("max_tokens", "length"), ("MAX_TOKENS", "length"),
        ("model_length", "length"), ("model_context_window_exceeded", "length"),
        ("maxPredictedTokensReached", "length"), ({"type": "length", "length": 64}, "length"),
    ],
)  # fmt: skip
def test_the_names_that_servers_have_for_an_end(reason, finish):
    assert read_reply(reply(finish=reason)).finish == finish


@pytest.mark.parametrize(
    "reason",
    [
        "content_filter", "sensitive", "SAFETY", "RECITATION", "guardrail_intervened", "refusal", "tool_calls",
        "function_call", "tool_use",
    ],
)  # fmt: skip
def test_endings_that_would_come_again_are_reported_at_once(reason):
    with pytest.raises(RequestRefused, match=f"finish reason '{reason}'"):
        read_reply(reply("The ans", finish=reason))


@pytest.mark.parametrize(
    "reason",
    [
        None, "null", "", "abort", "error", "cancelled", "insufficient_system_resource", "network_error", "timeout",
        "unload", "not_finished", "load", 7, True, ["stop"], {"type": None}, {},
    ],
)  # fmt: skip
def test_any_other_ending_is_no_answer_and_worth_another_try(reason):
    with pytest.raises(TemporaryError, match="broke the response off"):
        read_reply(reply(finish=reason))


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ({"content": None, "refusal": "I can't help with that."}, "refused to answer: I can't help with that$"),
        ({"content": [{"type": "refusal", "refusal": "No."}]}, "refused to answer: No$"),
        ({"content": None, "tool_calls": [{"id": "1", "type": "function"}]}, "called a tool"),
        ({"content": "Let me see", "tool_calls": [{"id": "1"}]}, "called a tool"),
        ({"content": None, "function_call": {"name": "f"}}, "called a tool"),
        ({"content": [{"type": "tool_use", "name": "f"}]}, "called a tool"),
        ({"content": None}, "without a text in it, of 12 tokens"),
        ({"content": ""}, "without a text in it, of 12 tokens"),
    ],
)
def test_a_stop_without_an_answer_is_reported(message, why):
    with pytest.raises(RequestRefused, match=why):
        read_reply(reply(**message))


def test_what_a_filter_took_away_is_named_without_a_message():
    with pytest.raises(RequestRefused, match="a filter took the content away"):
        read_reply({"choices": [{"finish_reason": "content_filter"}]})


def test_fields_of_refusals_and_tools_that_say_nothing_change_nothing():
    assert read_reply(reply(refusal=None, tool_calls=[], function_call=None)).text == "It is 7."
    assert read_reply(reply(refusal="", tool_calls=None)).text == "It is 7."


def test_an_end_at_once_is_an_empty_answer_unless_nothing_was_generated():
    found = read_reply(reply("", usage={"completion_tokens": 1}))
    assert (found.text, found.tokens) == ("", 1)
    for finish in ("stop", "length"):
        with pytest.raises(TemporaryError, match="without a text"):
            read_reply(reply("", finish, {"completion_tokens": 0}))


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        # thought left out of the count, as by xAI and proxies of Gemini
        ({"prompt_tokens": 21, "completion_tokens": 0, "total_tokens": 81, "reasoning_tokens": 50}, 60),
        ({"prompt_tokens": 9, "completion_tokens": 6, "total_tokens": 135,
          "completion_tokens_details": {"reasoning_tokens": 94}}, 126),
        ({"prompt_tokens": 20, "completion_tokens": 42, "total_tokens": 116}, 96),
        # no number, but the total is one
        ({"prompt_tokens": 10, "completion_tokens": None, "total_tokens": 30}, 20),
        ({"prompt_tokens": 10, "completion_tokens": "20", "total_tokens": 30}, 20),
        ({"prompt_tokens": 10, "completion_tokens": -1, "total_tokens": 30}, 20),
        ({"prompt_tokens": 10, "completion_tokens": True, "total_tokens": 30}, 20),
        ({"prompt_tokens": 10, "completion_tokens": 2.5, "total_tokens": 30}, 20),
        ({"prompt_tokens": 10, "completion_tokens": float("nan"), "total_tokens": 30}, 20),
        ({"prompt_tokens": 10, "completion_tokens": 10**30, "total_tokens": 30}, 20),
        ({"prompt_tokens": 10, "total_tokens": 30}, 20),
        # above the limit, but the total is not: the prompt was counted, too
        ({"prompt_tokens": 300, "completion_tokens": 320, "total_tokens": 320}, 20),
        # other names, and a number that JavaScript wrote
        ({"input_tokens": 10, "output_tokens": 20}, 20),
        ({"completion_tokens": 20.0}, 20),
        # totals that cannot be true do not harm a count that can
        ({"prompt_tokens": 0, "completion_tokens": 20, "total_tokens": 30}, 20),
        ({"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 5}, 20),
        ({"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 9999}, 20),
        # a little above the limit, as servers come that draw several tokens at once
        ({"completion_tokens": 203}, 203),
    ],
)  # fmt: skip
def test_counts_that_cannot_be_true_are_mended_from_the_others(usage, tokens):
    assert read_reply(reply(usage=usage), limit=200).tokens == tokens


@pytest.mark.parametrize(
    ("usage", "why"),
    [
        ({"completion_tokens": 0}, "counts 0 tokens, which cannot be true: the response has 3 words"),
        ({"prompt_tokens": 10, "completion_tokens": 0, "total_tokens": 10}, "the response has 3 words"),
        ({"completion_tokens": 6, "completion_tokens_details": {"reasoning_tokens": 94}}, "94 of them would be"),
        ({"completion_tokens": 6, "output_tokens_details": {"reasoning_tokens": 94}}, "94 of them would be"),
        ({"completion_tokens": 5000}, "counts 5,000 tokens, which cannot be true: the limit was 200"),
        ({"prompt_tokens": 10, "completion_tokens": 6, "total_tokens": 910, "reasoning_tokens": 94}, "cannot be true"),
    ],
)  # fmt: skip
def test_counts_that_nothing_mends_are_refused(usage, why):
    with pytest.raises(RequestRefused, match=why):
        read_reply(reply(usage=usage), limit=200)


@pytest.mark.parametrize("text", ["so it is " * 500, "因为" * 2000])
def test_a_count_of_one_token_for_a_long_response_is_refused(text):
    with pytest.raises(RequestRefused, match="counts 1 tokens, which cannot be true"):
        read_reply(reply(text, usage={"completion_tokens": 1}))


@pytest.mark.parametrize("usage", [[], "x", 5, {}, {"completion_tokens": {}}, {"total_tokens": 30}])
def test_without_any_count_nothing_can_be_compared(usage):
    with pytest.raises(MullError, match=r"no usage.completion_tokens"):
        read_reply(reply(usage=usage))


def test_llama_cpp_and_groq_count_elsewhere():
    assert read_reply({**reply(usage={}), "timings": {"predicted_n": 20}}).tokens == 20
    assert read_reply({**reply(usage={}), "x_groq": {"usage": {"completion_tokens": 20}}}).tokens == 20


THOUGHT = "Maybe 6?\nNo, 7."


@pytest.mark.parametrize(
    "message",
    [
        {"content": "It is 7.", "reasoning_content": THOUGHT},
        {"content": "It is 7.", "reasoning": THOUGHT},
        {"content": "It is 7.", "thinking": THOUGHT},
        {"content": "It is 7.", "reasoning_content": "", "reasoning": THOUGHT, "thinking": None},
        {"content": "It is 7.", "reasoning_content": THOUGHT, "reasoning": THOUGHT},
        {"content": "It is 7.", "reasoning": THOUGHT,
         "reasoning_details": [{"type": "reasoning.text", "text": THOUGHT, "index": 0}]},
        {"content": "It is 7.", "reasoning_details": [{"type": "reasoning.summary", "summary": THOUGHT},
                                                      {"type": "reasoning.encrypted", "data": "x"}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]},
                     {"type": "text", "text": "It is 7."}]},
        {"content": [{"type": "thinking", "thinking": THOUGHT}, {"type": "output_text", "text": "It is "}, "7."]},
        {"content": [{"type": "text", "text": {"value": "It is 7."}}], "reasoning": {"text": THOUGHT}},
        {"content": {"type": "text", "text": "It is 7."}, "reasoning_content": [{"type": "text", "text": THOUGHT}]},
        # the same thought twice
        {"content": f"<think>\n{THOUGHT}\n</think>\n\nIt is 7.", "reasoning_content": THOUGHT},
        {"content": f"<think>{THOUGHT}</think>It is 7.", "reasoning": f"\n{THOUGHT}\n"},
        {"content": f"{THOUGHT}\n</think>\n\nIt is 7.", "reasoning_content": THOUGHT},
        {"content": [{"type": "thinking", "thinking": THOUGHT}, {"type": "text", "text": "It is 7."}],
         "reasoning_content": THOUGHT},
        # a tag that the parser left
        {"content": "</think>\n\nIt is 7.", "reasoning_content": THOUGHT},
        {"content": "<think>\n\n</think>\n\nIt is 7.", "reasoning_content": THOUGHT},
        {"content": "It is 7.", "reasoning_content": f"<think>\n{THOUGHT}"},
        {"content": "It is 7.", "reasoning_content": f"<think>\n{THOUGHT}\n</think>"},
        {"content": "It is 7.", "reasoning_content": f"{THOUGHT}\n</think>\n\nIt is 7."},
        {"content": None, "reasoning_content": f"{THOUGHT}\n</think>\n\nIt is 7."},
    ],
)  # fmt: skip
def test_every_shape_is_read_as_one_thought_and_one_answer(message):
    found = read_reply(reply(**message))
    assert parts_of(found) == ("closed", THOUGHT, "It is 7.")
    assert found.text.count("Maybe 6?") == 1 and found.text.count("</think>") == 1


@pytest.mark.parametrize(
    "message",
    [
        {"content": None, "reasoning_content": THOUGHT},
        {"content": f"<think>\n{THOUGHT}", "reasoning_content": THOUGHT},
        {"content": THOUGHT, "reasoning": THOUGHT},
        {"content": f"<think>\n{THOUGHT}"},
        {"content": None, "reasoning_content": f"<think>\n{THOUGHT}"},
    ],
)
def test_a_thought_that_was_cut_off_is_there_once(message):
    found = read_reply(reply(finish="length", **message))
    assert parts_of(found) == ("unclosed", THOUGHT, "") and found.text.count("Maybe") == 1


def test_two_different_thoughts_are_both_kept_as_thought():
    found = read_reply(reply("<think>\nSure?\n</think>\n\nIt is 7.", reasoning_content=THOUGHT))
    assert parts_of(found) == ("closed", f"{THOUGHT}\n\nSure?", "It is 7.")


def test_an_answer_may_repeat_its_thought():
    assert parts_of(read_reply(reply(reasoning_content="It is 7."))) == ("closed", "It is 7.", "It is 7.")


def test_a_thought_that_the_server_hides_still_counts_as_one():
    usage = {"completion_tokens": 40, "completion_tokens_details": {"reasoning_tokens": 30}}
    assert parts_of(read_reply(reply(usage=usage))) == ("closed", "", "It is 7.")
    assert parts_of(read_reply(reply(None, "length", usage)))[0] == "unclosed"
    usage = {"completion_tokens": 40, "completion_tokens_details": {"reasoning_tokens": 0}}
    assert parts_of(read_reply(reply(usage=usage)))[0] == "none"


@pytest.mark.parametrize(
    "message",
    [
        7, "It is 7.", ["x"], True,
        *({"content": wrong} for wrong in (7, True, 1.5, [7], [[[[["x"]]]]], {"type": "image_url"}, {"text": 7})),
        *({"content": "7", "reasoning": wrong} for wrong in (7, True, [7], [{"type": 3}])),
    ],
)  # fmt: skip
def test_content_of_a_wrong_type_is_no_response(message):
    choice = {"message": message, "finish_reason": "stop"}
    with pytest.raises(TemporaryError):
        read_reply({"choices": [choice], "usage": {"completion_tokens": 12}})


def test_halves_of_a_character_are_joined_and_single_ones_replaced():
    assert read_reply(reply("so \ud83d\ude00 and \ud83d.")).text == "so 😀 and \ufffd."


@pytest.mark.parametrize(
    ("broken", "status", "message"),
    [
        ({"error": {"code": 429, "message": "Limit of the day\nreached."}}, 429, "Limit of the day reached"),
        ({"error": {"code": "503", "message": "m"}, "choices": None}, 503, "m"),
        ({"error": {"code": None, "type": "rate_limit_error", "message": "m"}}, 429, "m"),
        ({"error": {"code": "rate_limit_exceeded", "message": "m"}}, 429, "m"),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, 429, "Overloaded"),
        ({"error": {"type": "invalid_request_error", "message": "m"}}, 400, "m"),
        ({"error": {"code": "invalid_api_key", "message": "m"}}, 401, "m"),
        ({"error": {"code": "model_not_found", "message": "m"}}, 404, "m"),
        ({"error": {"code": "context_length_exceeded", "message": "m"}}, 400, "m"),
        ({"error": {"type": "insufficient_quota", "message": "m"}}, 400, "m"),
        ({"object": "error", "message": "m", "type": "BadRequestError", "code": 400}, 400, "m"),
        ({"error": "CUDA out of memory"}, 500, "CUDA out of memory"),
        ({"errors": [{"code": 7, "message": "m"}]}, 500, "m"),
        ({"detail": "no"}, 500, "no"),
        ({"code": 1302, "msg": "busy"}, 500, "busy"),
        ({"error": {"code": 502, "message": "Provider returned error", "metadata": {"raw": "boom"}}}, 502,
         "Provider returned error (boom)"),
        ({"choices": [{"error": {"code": 502, "message": "m"}, "finish_reason": "error"}]}, 502, "m"),
        ({"error": {"message": "\x1b[31mred\x07"}}, 500, "[31mred"),
    ],
)  # fmt: skip
def test_an_error_in_a_reply_is_shown_with_the_status_that_it_amounts_to(broken, status, message):
    with pytest.raises(ErrorReply) as error:
        read_reply(broken)
    assert (error.value.problem.status, error.value.problem.message) == (status, message)


@pytest.mark.parametrize("nothing", [None, {}, "", [], {"code": None, "message": None}])
def test_an_error_that_is_empty_is_none(nothing):
    assert read_reply({**reply(), "error": nothing}).text == "It is 7."


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["stop", "text"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=12,
)


def streamed(reply):
    stream = StreamedReply()
    stream.feed(events(reply, b"[DONE]"))
    return stream.whole()


@pytest.mark.parametrize("come", [lambda reply: reply, streamed], ids=["whole", "streamed"])
@given(JSON, JSON, JSON, JSON)
def test_whatever_a_reply_holds_it_is_a_response_or_refused(come, message, reason, usage, error):
    choice = {"message": message, "delta": message, "finish_reason": reason}
    for broken in (message, {"choices": message}, {"choices": [choice], "usage": usage, "error": error}):
        with contextlib.suppress(MullError, Unanswered):
            found = read_reply(come(broken), limit=100)
            assert found.finish in ("stop", "length") and found.tokens > 0
            found.text.encode()
