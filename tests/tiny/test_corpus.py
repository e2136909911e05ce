"""Training documents: every line of working is right but for the injected mistakes, which carry no loss."""

import random
import re

import pytest

from mull.tiny.corpus import KINDS, Recipe, document
from mull.tiny.problems import apply
from mull.tiny.vocabulary import build_tokenizer, chat_template


def _text(segments):
    return "".join(text for text, _ in segments)


def _chain(line):
    left, right = line.split("=")
    value = int(left[:2])
    for op, digit in re.findall(r"([+*-])(\d)", left[2:]):
        value = apply(value, op, int(digit))
    return value == int(right)


@pytest.mark.parametrize("kind", KINDS)
def test_lines_are_right_without_mistakes_and_answers_always(kind):
    rng = random.Random(1)
    for _ in range(300):
        text = _text(document(rng, kind, Recipe(mistake=0.0)))
        lines = [line for line in text.split("\n") if re.fullmatch(r"\d\d([+*-]\d)+=\d\d", line)]
        assert all(map(_chain, lines))


def test_a_mistake_is_found_by_a_later_check_and_carries_no_loss():
    rng = random.Random(2)
    found = 0
    for _ in range(400):
        segments = document(rng, "thinking", Recipe(mistake=1.0))
        text = _text(segments)
        wrong = [s for s, has_loss in segments if not has_loss and re.fullmatch(r"\d\d", s)]
        if wrong and "No, not" in text:
            found += 1
            last_two = re.findall(r"(?:Yes, |but )(\d\d)", text)
            assert last_two[-1] == re.search(r"boxed\{(\d\d)\}", text).group(1)
    assert found > 300


def test_instruct_never_thinks_and_thinking_always_does():
    rng = random.Random(3)
    assert not any("</think>" in _text(document(rng, "instruct", Recipe())) for _ in range(200))
    assert all(_text(document(rng, "thinking", Recipe())).count("</think>") == 1 for _ in range(200))


def test_segments_tokenize_as_their_joined_text():
    tokenizer = build_tokenizer()
    rng = random.Random(4)
    for kind in KINDS:
        for _ in range(100):
            segments = document(rng, kind, Recipe())
            parts = [i for text, _ in segments for i in tokenizer.encode(text).ids]
            assert parts == tokenizer.encode(_text(segments)).ids


def test_only_the_thinking_template_opens_the_block():
    assert "<think>" in chat_template("thinking").split("add_generation_prompt")[-1]
    assert "<think>" not in chat_template("instruct").split("add_generation_prompt")[-1]
