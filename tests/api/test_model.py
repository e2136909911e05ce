"""A model's replies: one, several λ in one batch, in pieces, and with a notebook's event loop under way."""

import asyncio

import pytest

import mull
from mull.engines.base import Request, Sampling
from mull.thinking import split_thinking

QUESTION = "What is the sum of 3 4 5 6 7?"
GREEDY = {"temperature": 0, "max_tokens": 200}


@pytest.fixture(scope="module")
def model(pair):
    with mull.Model(pair, device="cpu", quiet=True) as model:
        yield model


def test_a_reply_is_what_the_engine_generates(model):
    reply = model.chat(QUESTION, lam=0.6, seed=3, max_tokens=200)
    prompt = model._engine.render([{"role": "user", "content": QUESTION}])
    request = Request(id="1", prompt_ids=prompt, seed=3, sampling=Sampling(max_tokens=200), lam=0.6)
    (expected,) = model._engine.generate([request])
    split = split_thinking(expected.text, finished=expected.finish == "stop")
    assert (reply.text, reply.thought, reply.answer) == (expected.text, split.thought, split.answer)
    assert (reply.tokens, reply.finish, reply.lam, reply.why) == (expected.tokens, "stop", 0.6, "chosen by you")
    assert 0 < reply.thought_tokens < reply.tokens and reply.seconds > 0


def test_several_lambdas_are_one_batch_of_the_replies_that_they_are_alone(model):
    lams = [0, 0.6, 1, "auto"]
    replies = model.chat(QUESTION, lam=lams, **GREEDY)
    assert [reply.lam for reply in replies[:3]] == [0, 0.6, 1] and replies[3].why.startswith("auto: ")
    assert [reply.text for reply in replies] == [model.chat(QUESTION, lam=lam, **GREEDY).text for lam in lams]
    assert replies[0].thought == "" and replies[2].thought
    with pytest.raises(mull.MullError, match="2 λ for 1 prompts"):
        model.generate([QUESTION], [0, 1])


def test_pieces_are_the_reply(model):
    stream = model.stream(QUESTION, lam=0.8, **GREEDY)
    with pytest.raises(mull.MullError, match="not finished"):
        _ = stream.reply
    pieces = list(stream)
    assert [piece.kind for piece in pieces] == sorted((piece.kind for piece in pieces), reverse=True)
    assert "".join(piece.text for piece in pieces if piece.kind == "answer") == stream.reply.answer
    assert stream.reply.text == model.chat(QUESTION, lam=0.8, **GREEDY).text


def test_budgets_stops_and_conversations(model):
    whole = model.chat(QUESTION, lam=1, **GREEDY)
    short = model.chat(QUESTION, lam=1, budget=20, **GREEDY)
    sampling = Sampling(temperature=0, max_tokens=200, thinking_budget=20)
    prompt = model._engine.render([{"role": "user", "content": QUESTION}])
    (expected,) = model._engine.generate([Request(id="1", prompt_ids=prompt, seed=0, sampling=sampling, lam=1.0)])
    assert short.text == expected.text != whole.text and expected.forced
    assert "=" not in model.chat(QUESTION, lam=0, stop=["="], **GREEDY).text
    messages = [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": whole.answer},
        {"role": "user", "content": "What is the sum of 1 2 3 4 5?"},
    ]
    assert model.chat(messages, lam=0, **GREEDY).answer


def test_a_dropped_stream_frees_its_row(model):
    stream = model.stream(QUESTION, lam=1, **GREEDY)
    next(stream)
    stream.close()
    assert model.chat(QUESTION, lam=0, **GREEDY).finish == "stop"
    assert model._streams.count == 0


def test_lambda_is_chosen_while_an_event_loop_is_under_way(model):
    async def ask():
        return model.chat(QUESTION, **GREEDY)

    assert asyncio.run(ask()).text == model.chat(QUESTION, **GREEDY).text


@pytest.mark.parametrize("lam", [1.2, -1, "much"])
def test_what_is_no_lambda_is_refused(model, lam):
    with pytest.raises(mull.MullError, match=r"λ|lambda"):
        model.chat(QUESTION, lam=lam)


def test_a_reply_shows_thought_and_answer_apart(model):
    reply = model.chat(QUESTION, lam=1, **GREEDY)
    assert f"\nthought: {reply.thought}\nanswer: {reply.answer}" in repr(reply)
    assert "<summary>thought</summary>" in reply._repr_html_()
    foreign = mull.Reply(
        thought="", answer="<script>", lam=0, why="x", tokens=1, thought_tokens=0, finish="stop", seconds=0, text=""
    )
    assert "<script>" not in foreign._repr_html_() and "thought</summary>" not in foreign._repr_html_()


def test_no_pair_is_the_built_in_one_and_a_head_of_another_is_refused(model, tmp_path):
    assert repr(model) == "Model: instruct × thinking, estimator conf"
    with pytest.raises(mull.MullError, match="Without --head there is conf alone"):
        mull.Model(estimator="pref", device="cpu", quiet=True)
