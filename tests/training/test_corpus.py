"""Training documents: every line of working is right but for the injected mistakes, which carry no loss."""

import random
import re

import pytest

from mull.tiny.problems import apply
from training.corpus import KINDS, Recipe, document
from training.vocabulary import build_tokenizer, chat_template


def _text(segments):
    return "".join(text for text, _ in segments)


def _chain(line):
    left, right = line.split("=")
    value = int(left[:2])
    for op, digit in re.findall(r"([+*-])(\d)", left[2:]):
        value = apply(value, op, int(digit))
    return value == int(right)


@pytest.mark.parametrize("kind", KINDS)
def test_lines_are_right_without_mistakes(kind):
    rng = random.Random(1)
    for _ in range(300):
        text = _text(document(rng, kind, Recipe(mistake=0.0, check_mistake=0.0)))
        lines = [line for line in text.split("\n") if re.fullmatch(r"\d\d([+*-]\d)+=\d\d", line)]
        assert all(map(_chain, lines))
        assert "Oh," not in text and "No," not in text


def _thoughts(recipe, count=400):
    rng = random.Random(2)
    return [document(rng, "thinking", recipe) for _ in range(count)]


def test_a_mistake_carries_no_loss():
    for segments in _thoughts(Recipe(mistake=1.0)):
        wrong = [s for s, has_loss in segments if not has_loss and re.fullmatch(r"\d\d", s)]
        assert wrong
        assert all(has_loss for s, has_loss in segments if not s.startswith("<|im_start|>") and s not in wrong)


@pytest.mark.parametrize(("trust", "word"), [(1.0, "No, still"), (0.0, "Oh, it is")])
def test_a_check_that_disagrees_is_believed_or_not(trust, word):
    texts = [_text(segments) for segments in _thoughts(Recipe(trust=trust))]
    assert not any(word in text for text in texts)
    assert sum("Oh, it is" in text or "No, still" in text for text in texts) > 200


def test_the_answer_is_what_the_last_verdict_says():
    for segments in _thoughts(Recipe()):
        text = _text(segments)
        verdicts = re.findall(r"(?:Yes, |still |it is )(\d\d)\.", text)
        assert verdicts[-1] == re.search(r"boxed\{(\d\d)\}", text).group(1)


def test_thoughts_are_as_long_whatever_the_difficulty():
    """Beyond the number of operations, which is spread alike over the strata, nothing tells how long a thought gets."""
    rng = random.Random(6)
    lines: dict[str, list[int]] = {}
    for _ in range(3000):
        text = _text(document(rng, "thinking", Recipe()))
        asked = re.search(r"user\n(.*?)<", text, re.S).group(1)
        if re.search(r"[+*-]", asked):
            active = len(re.findall(r"[+*-][2-9]", asked))
            lines.setdefault({1: "easy", 2: "medium"}.get(active, "hard"), []).append(text.count("\n"))
    means = {name: sum(found) / len(found) for name, found in lines.items()}
    assert min(map(len, lines.values())) > 400
    assert abs(means["easy"] / means["hard"] - 1) < 0.05


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
