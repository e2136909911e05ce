"""Streams of events, however they are cut and written, give the reply that would have come whole."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mull.engines.remote.events import LARGEST_EVENT, StreamedReply
from mull.engines.remote.refusals import ErrorReply, TemporaryError
from mull.engines.remote.replies import read_reply
from mull.errors import MullError

from .scripted import events

DONE = b"[DONE]"
USAGE = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 9}}


def piece(finish=None, **delta):
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "usage": None}


WHOLE = (
    piece(role="assistant", content=""),
    piece(content="λ is "),
    piece(content="7 😀."),
    piece("stop"),
    USAGE,
    DONE,
)


def streamed(*chunks):
    reply = StreamedReply()
    for chunk in chunks:
        reply.feed(chunk)
    return read_reply(reply.whole())


def expected(found):
    return (found.text, found.finish, found.tokens, found.prompt_tokens) == ("λ is 7 😀.", "stop", 9, 5)


@given(st.data(), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_events_may_be_cut_anywhere_and_lines_may_end_in_any_way(data, end):
    stream = events(*WHOLE, end=end)
    cuts = sorted({0, len(stream), *data.draw(st.lists(st.integers(0, len(stream)), max_size=20))})
    assert expected(streamed(*(stream[a:b] for a, b in itertools.pairwise(cuts))))
    assert expected(streamed(*(stream[i : i + 1] for i in range(len(stream)))))


@pytest.mark.parametrize(
    "stream",
    [
        b"\xef\xbb\xbf" + events(*WHOLE),
        b": keep-alive\n\n" + events(*WHOLE[:2]) + b":\n\n: PROCESSING\n\n\n" + events(*WHOLE[2:]),
        events(*WHOLE).replace(b"data: ", b"data:"),
        events(*WHOLE).replace(b"data: ", b"id: 4\nretry: 10\nevent: message\ndata: "),
        events(*WHOLE).replace(b'"choices": ', b'"choices":\ndata: '),
        events(*WHOLE).replace(b"\n\n", b"\n"),
        events(*WHOLE).replace(b"data: {", b"{"),
        events(*WHOLE)[:-2],
        events(*WHOLE[:-1]),
        events(*WHOLE) + events(piece(content="more")),
        events(*WHOLE[:-3], {**piece("stop"), "usage": USAGE["usage"]}, DONE),
        events(*WHOLE[:-2], {"usage": USAGE["usage"]}),
        events(*WHOLE[:1], {"choices": [{"index": 1, "delta": {"content": "other"}}]}, *WHOLE[1:]),
        events(*({**each, "usage": {"completion_tokens": 1}} for each in WHOLE[:4]), USAGE, DONE),
        events(*WHOLE[:2], {"choices": [{"message": {"content": "λ is 7 😀."}, "finish_reason": "stop"}]}, USAGE, DONE),
    ],
    ids=[
        "byte order mark", "comments", "no blank after the colon", "other fields", "several lines", "no blank lines",
        "no word data", "cut at the end", "no [DONE]", "after [DONE]", "counts in the last choice", "counts alone",
        "another choice", "counts in every event", "the whole message at the end",
    ],
)  # fmt: skip
def test_what_servers_make_of_the_standard(stream):
    assert expected(streamed(stream))


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "thinking"])
def test_a_thought_comes_in_pieces_too(field):
    pieces = [piece(**{field: "So\n"}), piece(**{field: " 7"}), piece(content="It"), piece("stop", content=" is 7.")]
    assert streamed(events(*pieces, USAGE, DONE)).text == "<think>\nSo\n 7\n</think>\n\nIt is 7."


def test_halves_of_a_character_in_two_events_are_joined():
    assert streamed(events(piece(content="\ud83d"), piece("stop", content="\ude00"), USAGE, DONE)).text == "😀"


@pytest.mark.parametrize("count", range(4))
def test_a_stream_that_breaks_off_is_no_response(count):
    with pytest.raises(TemporaryError, match="broke off"):
        streamed(events(*WHOLE[:count]))
    with pytest.raises(TemporaryError, match="broke off, without a finish reason"):
        streamed(events(*WHOLE[:count], USAGE, DONE))
    with pytest.raises(TemporaryError, match="broke off, without token counts"):
        streamed(events(*WHOLE[:4]))


def test_a_whole_stream_without_counts_cannot_be_compared():
    with pytest.raises(MullError, match=r"no usage.completion_tokens"):
        streamed(events(*WHOLE[:4], DONE))


@pytest.mark.parametrize(
    ("event", "status", "message"),
    [
        (events({"error": {"code": 429, "message": "later"}}), 429, "later"),
        (events({"choices": [{"delta": {}, "error": {"code": 502, "message": "gone"}}]}), 502, "gone"),
        (b"event: error\n" + events({"message": "no memory"}), 500, "no memory"),
        (b"event: error\n" + events(b"no memory"), 500, "no memory"),
        (b'{"error": {"code": 503, "message": "no memory"}}\n\n', 503, "no memory"),
    ],
)
def test_an_error_among_the_events_is_shown(event, status, message):
    with pytest.raises(ErrorReply) as error:
        streamed(events(*WHOLE[:2]), event, events(DONE))
    assert (error.value.problem.status, error.value.problem.message) == (status, message)


@pytest.mark.parametrize(
    "event",
    [
        b"{half", b"7", b"[]", b"\xff\xfe", b"[" * 100_000, json.dumps({"choices": 7}).encode(), b'{"choices": [7]}',
        b'{"choices": [{"delta": 7}]}', b'{"choices": [{"delta": {"content": 7}}]}',
    ],
)  # fmt: skip
def test_events_of_wrong_types_are_no_response(event):
    with pytest.raises(TemporaryError):
        streamed(events(*WHOLE[:2], event, *WHOLE[2:]))


def test_an_event_without_an_end_is_bounded():
    reply = StreamedReply()
    with pytest.raises(TemporaryError, match="an event of more than 16 MiB"):
        for _ in range(LARGEST_EVENT // 2**20 + 1):
            reply.feed(b"data:" + b"x" * 2**20)
