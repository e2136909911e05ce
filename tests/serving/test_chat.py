"""A conversation in this process: what the model is asked, what comes in pieces, what is kept of a turn."""

from contextlib import closing
from dataclasses import replace

import pytest

from mull.checkpoints.pair import Pair
from mull.dynamic.choosing import chooser_of, lam_of
from mull.engines.base import Request, Sampling
from mull.engines.local.opening import open_rows
from mull.errors import MullError
from mull.serving.chat import Chat
from mull.thinking import split_thinking

QUESTION = "What is the sum of 3 4 5 6 7?"
GREEDY = Sampling(temperature=0, max_tokens=300)


@pytest.fixture(scope="module")
def engine():
    return open_rows(Pair.built_in(), device="cpu")


@pytest.fixture
def chat(engine):
    with Chat(engine, *chooser_of(None, "conf"), lam=0.8, sampling=GREEDY) as chat:
        yield chat


def whole(engine, messages, lam, sampling=GREEDY):
    """Thought and answer of the same conversation, generated at once."""
    request = Request(id="1", prompt_ids=engine.render(messages), seed=0, sampling=sampling, lam=lam)
    (completion,) = engine.generate([request])
    split = split_thinking(completion.text, finished=completion.finish == "stop")
    return split.thought, split.answer, completion.tokens


@pytest.mark.parametrize("lam", [0.0, 0.3, 0.6, 1.0])
def test_pieces_joined_are_the_whole_response(engine, chat, lam):
    chat.lam = lam
    pieces = list(chat.ask(QUESTION))
    thought, answer, tokens = whole(engine, [{"role": "user", "content": QUESTION}], lam)
    (turn,) = chat.turns
    assert (turn.thought, turn.answer) == (thought, answer)
    if not turn.corrected:
        assert "".join(p.text for p in pieces if p.kind == "thought") == thought
        assert "".join(p.text for p in pieces if p.kind == "answer") == answer
    assert (turn.lam, turn.why) == (lam, "chosen by you")
    assert turn.thought_tokens + turn.answer_tokens == tokens and turn.seconds > 0


def test_a_thought_comes_before_its_answer_and_in_many_pieces(chat):
    kinds = [piece.kind for piece in chat.ask(QUESTION)]
    assert kinds == sorted(kinds, reverse=True) and kinds.count("thought") > 5


def test_earlier_answers_are_sent_back_and_thoughts_are_not(engine, chat):
    list(chat.ask(QUESTION))
    (first,) = chat.turns
    assert first.thought
    messages = [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": first.answer},
        {"role": "user", "content": "What is the sum of 1 2 3 4 5?"},
    ]
    assert chat.messages(messages[-1]["content"]) == messages
    list(chat.ask(messages[-1]["content"]))
    assert (chat.turns[1].thought, chat.turns[1].answer) == whole(engine, messages, 0.8)[:2]
    chat.new()
    assert chat.messages(QUESTION) == messages[:1]


def test_a_system_prompt_comes_first(engine):
    with Chat(engine, *chooser_of(None, "conf"), system="Be brief.") as chat:
        assert chat.messages("1?") == [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "1?"},
        ]


def test_lambda_is_chosen_for_the_question_and_says_why(chat):
    chat.lam = None
    list(chat.ask(QUESTION))
    assert 0 <= chat.turns[0].lam <= 1 and chat.turns[0].why.startswith("auto: ")


def test_a_budget_closes_the_thought_and_can_be_lifted(engine, chat):
    chat.set_budget(5)
    list(chat.ask(QUESTION))
    found = whole(engine, [{"role": "user", "content": QUESTION}], 0.8, replace(GREEDY, thinking_budget=5))
    assert (chat.turns[0].thought, chat.turns[0].answer) == found[:2]
    chat.new()
    chat.set_budget(None)
    list(chat.ask(QUESTION))
    unlimited = whole(engine, [{"role": "user", "content": QUESTION}], 0.8)
    assert (chat.turns[0].thought, chat.turns[0].answer) == unlimited[:2] != found[:2]


def test_a_stopped_response_leaves_no_trace(chat):
    with closing(chat.ask(QUESTION)) as pieces:
        next(pieces)
    assert chat.turns == []
    list(chat.ask(QUESTION))
    assert len(chat.turns) == 1


def test_a_question_that_does_not_fit_is_refused_and_the_chat_goes_on(chat):
    with pytest.raises(MullError, match=r"context|tokens"):
        list(chat.ask("9" * 20_000))
    list(chat.ask(QUESTION))
    assert len(chat.turns) == 1


def test_a_lambda_of_a_text():
    assert (lam_of("0.4"), lam_of("auto")) == (0.4, None)
    for wrong in ("1.2", "-0.1", "nan", "much", ""):
        with pytest.raises(MullError, match="no λ"):
            lam_of(wrong)
    with pytest.raises(MullError, match="no estimator 'pref'"):
        chooser_of(None, "pref")
