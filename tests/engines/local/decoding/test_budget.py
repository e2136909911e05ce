"""A hard thinking budget: exact on token ids, with tags of one token and of several."""

from __future__ import annotations

import pytest

from mull.engines.base import Request, Sampling
from mull.engines.local.decoding.budget import RowBudget, ThoughtBudget
from mull.engines.local.engine import LocalEngine
from mull.engines.local.prompts import Prompts
from mull.errors import MullError
from mull.thinking import ThinkTags, split_thinking
from mull.tiny import checkpoint_folder

OPEN, CLOSE = (90, 91), (80, 81, 82)


def run(budget, tokens):
    """What a model's `tokens` become under the budget, token by token."""
    row, found, drawn = RowBudget(budget), [], iter(tokens)
    while True:
        token = row.forced
        if token is None:
            token = next(drawn, None)
            if token is None:
                return found, row.used
        else:
            next(drawn, None)  # the model's own token of this step is not taken
        row.push(token)
        found.append(token)


@pytest.mark.parametrize(
    "tokens, given, expected, used",
    [
        # An open thought is closed after three tokens; what the model drew meanwhile is not taken.
        (3, [1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 80, 81, 82, 7], True),
        (0, [1, 2, 3, 4], [80, 81, 82, 4], True),
        # A thought that ends in time is left alone, and so is the answer.
        (5, [1, 2, 80, 81, 82, 3, 4, 5, 6, 7, 8], [1, 2, 80, 81, 82, 3, 4, 5, 6, 7, 8], False),
        # The model has begun the tag: it is completed.
        (3, [1, 2, 80, 5, 6, 7], [1, 2, 80, 81, 82, 7], True),
        (4, [1, 2, 80, 81, 6, 7], [1, 2, 80, 81, 82, 7], True),
    ],
)
def test_a_thought_that_the_prompt_opens(tokens, given, expected, used):
    assert run(ThoughtBudget(tokens=tokens, close_ids=CLOSE, opened=True), given) == (expected, used)


def test_a_thought_that_the_model_opens():
    budget = ThoughtBudget(tokens=2, close_ids=CLOSE, open_ids=OPEN)
    assert run(budget, [1, 2, 3, 4]) == ([1, 2, 3, 4], False), "no thought, no limit"
    assert run(budget, [90, 91, 1, 2, 3, 4, 5, 6]) == ([90, 91, 1, 2, 80, 81, 82, 6], True)
    # A second thought counts on: the budget is that of the response.
    assert run(budget, [90, 91, 1, 80, 81, 82, 5, 90, 91, 2, 0, 0, 0, 7]) == (
        [90, 91, 1, 80, 81, 82, 5, 90, 91, 2, 80, 81, 82, 7],
        True,
    )


def test_a_sentence_before_the_tag():
    """Its tokens come after the whole budget; a tag that the model has begun is completed without it."""
    budget = ThoughtBudget(tokens=3, close_ids=CLOSE, message_ids=(70, 71), opened=True)
    assert run(budget, list(range(1, 10))) == ([1, 2, 3, 70, 71, 80, 81, 82, 9], True)
    assert run(budget, [1, 2, 80, 5, 6, 7]) == ([1, 2, 80, 81, 82, 7], True)
    budget = ThoughtBudget(tokens=5, close_ids=CLOSE, message_ids=(70, 71), opened=True)
    assert run(budget, [1, 80, 81, 82, 3, 4, 5, 6]) == ([1, 80, 81, 82, 3, 4, 5, 6], False)


def test_bad_budgets():
    with pytest.raises(ValueError, match="0 or positive"):
        ThoughtBudget(tokens=-1, close_ids=CLOSE)
    with pytest.raises(ValueError, match="closing tag"):
        ThoughtBudget(tokens=1, close_ids=())


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_in_the_engine(pairs, temperature):
    """After the forced tag the answer goes on from it, as from a prompt that ends so."""
    tags = (ThinkTags("w30", "w40 w41"),)  # the prompts end with w30
    engine = LocalEngine(*pairs("qwen3"), processes=1, prompts=Prompts(pairs("qwen3")[1], think_tags=tags))

    def ask(budget, count=6):
        sampling = Sampling(temperature=temperature, top_k=0, top_p=1.0, max_tokens=30, thinking_budget=budget)
        asked = [Request(id=str(i), prompt_ids=(6 + i, 9, 30), seed=i, sampling=sampling) for i in range(count)]
        return {c.id: c for c in engine.generate(asked)}

    free, close = ask(None), (40, 41)
    limited = ask(5)
    for key, found in limited.items():
        assert found.token_ids[:5] == free[key].token_ids[:5]
        if len(free[key].token_ids) > 5 and close not in zip(
            free[key].token_ids, free[key].token_ids[1:6], strict=False
        ):
            assert found.forced and found.token_ids[5:7] == close
    forced = [found for found in limited.values() if found.forced]
    assert forced
    for found in forced:
        prompt = (6 + int(found.id), 9, 30)
        again = Request(
            id="x", prompt_ids=prompt + found.token_ids[:7], seed=0, sampling=Sampling(temperature=0, max_tokens=3)
        )
        if temperature == 0:
            (after,) = engine.generate([again])
            # A thought that is opened anew is closed at once, which the model alone does not do.
            length = after.token_ids.index(30) + 1 if 30 in after.token_ids else 3
            assert after.token_ids[:length] == found.token_ids[7 : 7 + length]
    assert {c.token_ids for c in ask(10**6).values()} == {c.token_ids for c in free.values()}


def test_a_sentence_in_the_engine():
    engine = LocalEngine(checkpoint_folder("instruct"), checkpoint_folder("thinking"), processes=1)
    prompt = engine.render([{"role": "user", "content": "12 + 30 = ?"}])
    encode = engine.prompts.tokenizer.encode

    def ask(message, budget=8):
        sampling = Sampling(temperature=0, max_tokens=60, thinking_budget=budget, budget_message=message)
        (found,) = engine.generate([Request(id="x", prompt_ids=prompt, seed=0, sampling=sampling)])
        return found

    plain, told = ask(None), ask("\n= 4\n")
    assert plain.forced and told.forced
    close, sentence = (tuple(encode(part, add_special_tokens=False)) for part in ("</think>", "\n= 4\n"))
    place = plain.token_ids.index(close[0])
    assert told.token_ids[:place] == plain.token_ids[:place]
    assert told.token_ids[place : place + len(sentence) + len(close)] == sentence + close
    assert told.thought_tokens == plain.thought_tokens + len(sentence)
    assert split_thinking(told.text, finished=True).thought.endswith("= 4")
    for wrong in ("so </think> now", engine.prompts.tokenizer.eos_token):
        with pytest.raises(MullError, match="budget message holds"):
            ask(wrong)
    with pytest.raises(ValueError, match="needs a thinking_budget"):
        ask("so", None)
