"""What is sent and how replies are read, without a server."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from mull.engines.base import Sampling
from mull.engines.remote.chat import read_reply, request_body
from mull.engines.remote.endpoints import Target
from mull.engines.remote.messages import joined
from mull.engines.remote.refusals import ApiKey, Unanswered, retry_after
from mull.errors import MullError
from mull.thinking import split_thinking

MESSAGES = [{"role": "user", "content": "1 + 1?"}]


def reply(content="a", finish="stop", tokens=3, **message):
    choice = {"message": {"content": content, **message}, "finish_reason": finish}
    return {"choices": [choice], "usage": {"completion_tokens": tokens}}


def test_all_sampling_is_stated():
    sampling = Sampling(temperature=0.6, top_p=0.95, top_k=20, max_tokens=99)
    assert request_body(Target("http://a", "m"), MESSAGES, sampling, 2**31 + 5) == {
        "model": "m", "messages": MESSAGES, "max_tokens": 99, "stream": False,
        "temperature": 0.6, "top_p": 0.95, "top_k": 20, "seed": 5,
    }  # fmt: skip


def test_no_top_k_is_said_so_that_all_servers_understand_and_fields_can_be_left_out():
    target = Target("http://a", "m", {"lambda": 0.4})
    assert request_body(target, MESSAGES, Sampling(top_k=0), 1)["top_k"] == -1
    sent = request_body(target, MESSAGES, Sampling(), 1, omit=("top_k", "seed"))
    assert "top_k" not in sent and "seed" not in sent and sent["lambda"] == 0.4


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize(
    ("thought", "content", "finish", "kind", "answer"),
    [
        ("hm\n", "\n\n7", "stop", "closed", "7"),
        ("hm", "7 and", "length", "closed", "7 and"),
        ("hm", None, "length", "unclosed", ""),
        ("it is 7", None, "stop", "none", "it is 7"),
        (None, "it is 7", "stop", "none", "it is 7"),
        ("", "hm</think>7", "stop", "closed", "7"),
        (None, "hm", "length", "unclosed", ""),
    ],
)
def test_a_thought_that_was_split_off_is_joined_again(field, thought, content, finish, kind, answer):
    found = read_reply(reply(content, finish, **{field: thought}))
    split = split_thinking(found.text, finished=found.finish == "stop")
    assert (split.kind, split.answer) == (kind, answer)
    assert found.tokens == 3


def test_tokens_are_those_of_the_server_where_it_counts_them():
    found = read_reply(reply())
    assert (found.prompt_tokens, found.thought_tokens) == (None, None)
    told = reply(tokens=9)
    told["usage"] |= {"prompt_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 7}}
    found = read_reply(told)
    assert (found.prompt_tokens, found.tokens, found.thought_tokens) == (5, 9, 7)
    told["usage"] |= {"prompt_tokens": "many", "completion_tokens_details": {"reasoning_tokens": -1}}
    assert read_reply(told)[-2:] == (None, None)


def test_text_without_a_thought_is_left_alone():
    assert joined("", "  x\n", "stop") == "  x\n"


@pytest.mark.parametrize(
    "broken",
    [
        [], None, "x", {}, {"choices": []}, {"choices": [{"message": None, "finish_reason": "stop"}]},
        reply(finish=None), reply(finish="abort"), reply(content=[1]),
    ],
)  # fmt: skip
def test_replies_without_a_response_may_be_asked_for_again(broken):
    with pytest.raises(Unanswered):
        read_reply(broken)


@pytest.mark.parametrize("tokens", [None, "3"])
def test_without_a_token_count_nothing_can_be_compared(tokens):
    with pytest.raises(MullError, match=r"no usage.completion_tokens"):
        read_reply(reply(tokens=tokens))


def test_a_key_is_not_shown():
    key = ApiKey("K", "sk-secret")
    assert "secret" not in repr(key) and key.hide("bad key sk-secret!") == "bad key …!"
    assert key.headers() == {"Authorization": "Bearer sk-secret"} and ApiKey("K", None).headers() == {}


def test_retry_after_in_seconds_or_as_a_date():
    assert retry_after("2.5") == 2.5 and retry_after("-1") == 0
    began = datetime.now(UTC)
    found = retry_after(format_datetime(began + timedelta(seconds=30), usegmt=True))  # whole seconds
    assert found is not None and 29 - (datetime.now(UTC) - began).total_seconds() < found < 31
    assert [retry_after(text) for text in (None, "", "nan", "inf", "soon")] == [None] * 5


@pytest.mark.parametrize(
    "mark",
    ["<|im_end|>", "<|im_end|>\n<|endoftext|>", "<end_of_turn>\n", "<｜end▁of▁sentence｜>", "<|return|>", "<eos>"],
)
def test_the_mark_of_a_turns_end_is_no_part_of_the_answer(mark):
    """transformers serve 5.23 leaves it in."""
    assert read_reply(reply(f"it is 7.{mark}")).text == "it is 7."
    assert read_reply(reply(mark, reasoning="it is 7")).text == "it is 7"
    assert read_reply(reply(f"a {mark} b")).text == f"a {mark} b"
    assert read_reply(reply(f"cut off{mark}", "length")).text == f"cut off{mark}"
    assert read_reply(reply("<p>Use <s>old</s>")).text == "<p>Use <s>old</s>"
