"""What is measured with the engine, against transformers on the two checkpoints by themselves."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from mull.benchmarks import FREE_ANSWER, LETTER_ANSWER, AnswerForm, load_benchmark
from mull.dynamic.base import Cost, Need
from mull.dynamic.probing.local import Query, forced_after, measure, measure_all
from mull.errors import MullError
from mull.tiny import checkpoint_folder

BOXED = AnswerForm("boxed", "The answer is \\boxed{")
FORCED = {Need.forced_instruct: "instruct", Need.forced_thinking: "thinking"}
HIDDEN = {Need.hidden_instruct: "instruct", Need.hidden_thinking: "thinking"}


@pytest.fixture(scope="module")
def alone():
    """Each end as transformers loads it, in float32."""
    return {
        side: AutoModelForCausalLM.from_pretrained(checkpoint_folder(side), dtype=torch.float32).eval()
        for side in ("instruct", "thinking")
    }


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(checkpoint_folder("thinking"))


@pytest.fixture(scope="module")
def conversations():
    """Of different lengths, one of several turns and one with a system prompt."""
    benchmark = load_benchmark("tiny", questions=6, seed=11)
    found = [benchmark.prompt(question) for question in benchmark.questions()]
    found.append([*found[0], {"role": "assistant", "content": "The answer is \\boxed{5}."}, *found[1]])
    found.append([{"role": "system", "content": "Be brief."}, *found[2]])
    return found


@pytest.fixture(scope="module")
def prompts(row_engine, conversations):
    return {f"q{i}": row_engine.render(messages) for i, messages in enumerate(conversations)}


def greedy(model, ids, steps):
    """Tokens and their log-probabilities, and those of the first token's distribution, one forward pass a token."""
    ids, tokens, logprobs, first = list(ids), [], [], None
    for _ in range(steps):
        with torch.no_grad():
            row = model(torch.tensor([ids])).logits[0, -1].double().log_softmax(-1)
        first = row if first is None else first
        token = int(row.argmax())
        tokens.append(token)
        logprobs.append(float(row[token]))
        ids.append(token)
    return tokens, logprobs, first


@pytest.mark.parametrize("form", [BOXED, LETTER_ANSWER, FREE_ANSWER], ids=lambda form: form.type)
def test_forced_answers_equal_a_greedy_continuation(row_engine, alone, tokenizer, prompts, form):
    found = list(measure(row_engine, prompts, FORCED, form))
    assert [each.query for each in found] == list(prompts)
    for signals, prompt in zip(found, prompts.values(), strict=True):
        opened = tokenizer.decode(prompt).rstrip().endswith("<think>")
        text = ("\n</think>\n\n" if opened else "") + form.opening
        forced = [*prompt, *tokenizer.encode(text, add_special_tokens=False)]
        for need, side in FORCED.items():
            answer = signals.forced(need)
            tokens, logprobs, first = greedy(alone[side], forced, 1 if form.type == "free" else 20)
            kept = len(answer.logprobs)
            assert answer.cost == Cost(kept, len(forced))
            np.testing.assert_allclose(answer.logprobs, logprobs[:kept], atol=1e-4)
            said = tokenizer.decode(tokens[:kept], skip_special_tokens=True)
            assert said.startswith(answer.text)
            if form.type == "boxed":
                assert answer.text.endswith("}") and kept < 20
                assert "}" not in tokenizer.decode(tokens[: kept - 1]), "no token after the end is charged"
            top = first.topk(20).values
            rest = 1 - float(top.exp().sum())
            expected = -float((top.exp() * top).sum()) - (rest * np.log(rest) if rest > 1e-12 else 0)
            assert answer.entropy == pytest.approx(expected, abs=1e-4)
            assert answer.confidence == pytest.approx(float(np.exp(np.mean(logprobs[:kept]))), abs=1e-4)


def test_hidden_states_equal_transformers_at_the_last_prompt_token(row_engine, alone, tokenizer, prompts):
    for signals, prompt in zip(measure(row_engine, prompts, HIDDEN, BOXED), prompts.values(), strict=True):
        for need, side in HIDDEN.items():
            ids = list(prompt)
            if need is Need.hidden_thinking and not tokenizer.decode(ids).rstrip().endswith("<think>"):
                ids += tokenizer.encode("<think>", add_special_tokens=False)
            with torch.no_grad():
                states = alone[side](torch.tensor([ids]), output_hidden_states=True).hidden_states
            expected = torch.stack([state[0, -1] for state in states[1:]]).numpy()
            found = signals.hidden(need)
            assert found.layers.dtype == np.float32 and found.layers.shape == expected.shape
            np.testing.assert_allclose(found.layers, expected, atol=1e-4 * np.abs(expected).max())
            assert found.cost == Cost(0, len(ids))


def test_company_and_padding_do_not_matter(row_engine, prompts):
    every = list(measure(row_engine, prompts, list(Need), BOXED))
    for signals, (name, prompt) in zip(every, prompts.items(), strict=True):
        (own,) = measure(row_engine, {name: prompt}, list(Need), BOXED)
        for need in HIDDEN:
            np.testing.assert_allclose(own.hidden(need).layers, signals.hidden(need).layers, atol=1e-4)
        for need in FORCED:
            assert own.forced(need).text == signals.forced(need).text and own.cost([need]) == signals.cost([need])
            np.testing.assert_allclose(own.forced(need).logprobs, signals.forced(need).logprobs, atol=1e-4)


def test_costs_add_up_and_only_what_is_needed_is_measured(row_engine, prompts):
    (signals,) = measure(row_engine, {"q0": prompts["q0"]}, [Need.forced_instruct, Need.hidden_instruct], BOXED)
    assert set(signals.measured) == {Need.forced_instruct, Need.hidden_instruct}
    forced = signals.forced(Need.forced_instruct).cost
    assert signals.cost(list(signals.measured)) == Cost(forced.generated, forced.prefilled + len(prompts["q0"]))
    assert signals.cost([]) == Cost()
    with pytest.raises(MullError, match="hidden state of Thinking was not measured"):
        signals.hidden(Need.hidden_thinking)


def test_questions_of_one_name_are_measured_apart(row_engine, conversations):
    """Two runs of benchmarks with the same name and different questions."""
    queries = [Query("mine/0", messages, BOXED) for messages in conversations[:2]]
    queries.append(Query("mine/0", conversations[2], LETTER_ANSWER))
    counted = []
    found = measure_all(row_engine, queries, [Need.hidden_instruct], counted.append)
    assert [each.query for each in found] == ["mine/0"] * 3 and counted == [1, 1, 1]
    for query, signals in zip(queries, found, strict=True):
        (own,) = measure(row_engine, {"x": row_engine.render(query.messages)}, [Need.hidden_instruct], query.form)
        np.testing.assert_allclose(
            signals.hidden(Need.hidden_instruct).layers, own.hidden(Need.hidden_instruct).layers, atol=1e-4
        )


def test_many_queries_come_in_chunks_and_in_order(row_engine, prompts, monkeypatch):
    from mull.dynamic.probing import local

    whole = list(measure(row_engine, prompts, [Need.hidden_instruct], BOXED))
    monkeypatch.setattr(local, "CHUNK", 3)
    for own, expected in zip(measure(row_engine, prompts, [Need.hidden_instruct], BOXED), whole, strict=True):
        assert own.query == expected.query
        np.testing.assert_allclose(
            own.hidden(Need.hidden_instruct).layers, expected.hidden(Need.hidden_instruct).layers, atol=1e-4
        )


def test_a_prompt_without_room_for_an_answer_is_refused(row_engine):
    with pytest.raises(MullError, match="context"):
        list(measure(row_engine, {"long": (7,) * row_engine.context}, [Need.forced_instruct], BOXED))
    with pytest.raises(MullError, match="context"):
        list(measure(row_engine, {"long": (7,) * (row_engine.context + 1)}, [Need.hidden_instruct], BOXED))


def test_a_given_text_takes_the_place_of_the_forms(row_engine, prompts, tokenizer):
    (own,) = forced_after(row_engine, 1.0, [prompts["q0"]], BOXED, "So it is \\boxed{")
    extra = len(tokenizer.encode("So it is \\boxed{", add_special_tokens=False))
    assert own.cost.prefilled == len(prompts["q0"]) + extra
    assert json.dumps(own.text)
