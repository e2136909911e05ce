"""Thought and answer in pieces are those of the whole text."""

from __future__ import annotations

import random
import time

import pytest

from mull.engines.local.streaming.thought import Piece, ThoughtStream
from mull.thinking import KNOWN, PLAIN, ThinkTags, split_thinking

TAGS = [
    ThinkTags("<think>", "</think>"),
    ThinkTags("[THINK]", "[/THINK]"),
    ThinkTags("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
]
PARTS = [
    "So ", "x < 3 ", "\n", "\n\n", "`a` ", " </thin ", "<thi ", "ok. ", "\n```\ncode\n```\n", "  ", '"</think>" here ',
    "`</think>` ", "` ", "a ",
]  # fmt: skip


def read(text, *, cuts, tags=KNOWN, opened=False, hold=False, direct=False, finished=True):
    """(thought, answer, how it ended, pieces) of `text`, cut at `cuts`."""
    stream = ThoughtStream(tags, opened=opened, hold=hold, direct=direct)
    pieces = [piece for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True) for piece in stream.push(text[a:b])]
    parted = stream.finish(finished=finished)
    pieces += parted.pieces
    assert stream.text == text and parted.split == split_thinking(
        text, finished=finished or direct or not opened, tags=tags
    )
    thought, answer = ("".join(p.text for p in pieces if p.kind == kind) for kind in ("thought", "answer"))
    return thought, answer, parted, pieces


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("tags", TAGS)
def test_pieces_are_the_split_of_the_whole(tags, hold):
    drawn = random.Random(0)

    def some(most):
        return "".join(drawn.choice(PARTS) for _ in range(drawn.randrange(most)))

    for _ in range(800):
        thought, answer = some(6), some(8)
        closed = thought + tags.close + answer
        text, opened, may_differ = drawn.choice(
            [
                (closed, True, False),
                (tags.open + closed, False, False),
                (tags.open + thought + tags.close + "\n<answer>" + answer + "</answer>\n<|return|>", False, False),
                (tags.open + thought, False, False),
                (answer, False, False),
                (answer, True, True),
                (closed, False, True),
                (tags.open + closed + tags.open + thought, False, True),
            ]
        )
        cuts = sorted(drawn.sample(range(len(text) + 1), min(len(text), drawn.choice([0, 3, len(text)]))))
        finished = drawn.random() < 0.7
        found = read(text, cuts=cuts, opened=opened, hold=hold, finished=finished)
        if found[2].corrected:
            assert may_differ, text
        else:
            assert found[:2] == (found[2].split.thought, found[2].split.answer), text


def test_tags_over_several_pieces_are_held_back():
    stream = ThoughtStream(PLAIN)
    pushed = [stream.push(piece) for piece in ("\n<th", "ink>\n", "a <", " b ", "</", "think>", "\n\nfour", " .")]
    assert pushed == [
        (), (), (Piece("thought", "a"),), (Piece("thought", " < b"),), (), (), (Piece("answer", "four"),),
        (Piece("answer", " ."),),
    ]  # fmt: skip
    assert stream.finish(finished=True).pieces == ()


def test_an_answer_where_the_prompt_had_opened_a_thought():
    """Nothing tells before the end: it is thought for the time being, or held back."""
    thought, answer, parted, _ = read("It is 4.", cuts=[3], opened=True)
    assert (thought, answer) == ("It is 4.", "") and parted.corrected and parted.split.answer == "It is 4."
    thought, answer, parted, pieces = read("It is 4.", cuts=[3], opened=True, hold=True)
    assert (thought, answer) == ("", "It is 4.") and not parted.corrected and len(pieces) == 1
    # Cut off, it is a thought.
    thought, answer, parted, _ = read("It is 4", cuts=[3], opened=True, hold=True, finished=False)
    assert (thought, answer) == ("It is 4", "") and parted.split.kind == "unclosed"


def test_held_back_thought_comes_with_its_end():
    stream = ThoughtStream(PLAIN, opened=True, hold=True)
    assert stream.push("2 + 2") == stream.push(" = 4") == ()
    assert stream.push("</think>4") == (Piece("thought", "2 + 2 = 4"), Piece("answer", "4"))
    # A thought that the response opens itself is one for sure.
    stream = ThoughtStream(PLAIN, opened=True, hold=True)
    assert stream.push("<think>2 + 2") == (Piece("thought", "2 + 2"),)


def test_quoted_tags_are_text():
    text = 'He said "</think>" and `</think>`\n</think>An `answer` about "<think>" tags.'
    thought, answer, parted, _ = read(text, cuts=list(range(len(text))), opened=True)
    assert not parted.corrected and thought.endswith("`</think>`") and "<think>" in answer


def test_a_tag_without_its_other_is_corrected():
    thought, answer, parted, _ = read("hm</think>four", cuts=[2])
    assert parted.corrected and parted.split[1:3] == ("hm", "four") and answer == "hmfour" and not thought


@pytest.mark.parametrize("part", ["<thin", "`", "``` \n", "<|end|", "word </think> `", "<think>`x` </think>\n"])
def test_long_texts_take_linear_time(part):
    def seconds(count):
        stream, begun = ThoughtStream(KNOWN, opened=True), time.process_time()
        for _ in range(count):
            stream.push(part)
        return time.process_time() - begun

    assert seconds(2000) < 12 * seconds(500) + 0.1


def test_an_answer_that_is_cut_off_is_one_where_the_prompt_opened_no_thought():
    thought, answer, parted, _ = read("It is", cuts=[2], finished=False)
    assert (thought, answer, parted.corrected) == ("", "It is", False)


def test_a_direct_answer_is_one_from_its_first_character_also_if_it_is_cut_off():
    for finished in (True, False):
        thought, answer, parted, pieces = read("It is 4.", cuts=[3], opened=True, direct=True, finished=finished)
        assert (thought, answer) == ("", "It is 4.") and not parted.corrected
        assert pieces[0] == Piece("answer", "It") and parted.split.kind == "none"
    _, _, parted, _ = read("2+2</think>4", cuts=[3], opened=True, direct=True)
    assert parted.corrected and parted.split[:3] == ("closed", "2+2", "4")
