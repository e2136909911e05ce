"""What the openai client sends is answered as it expects: sync, async, streaming, and errors by their types."""

from __future__ import annotations

import asyncio

import httpx2
import openai
import pytest

from mull.thinking import split_thinking


def ids(server, text):
    return server.engine.prompts.encode(text)


def test_models_are_the_pair_its_ends_its_levels_and_auto(server):
    names = [model.id for model in server.client.models.list()]
    assert names[:2] == ["mull", "mull@0"] and names[-2:] == ["mull@1", "mull@auto"]
    assert {"mull@0.4", "mull@0.6"} <= set(names)
    assert server.client.models.retrieve("mull@0.45").id == "mull@0.45"
    with pytest.raises(openai.NotFoundError):
        server.client.models.retrieve("another")


def test_a_chat_has_thought_answer_and_exact_usage(server, ask):
    reply = server.client.chat.completions.create(model="mull@0.7", messages=ask(), temperature=0)
    (choice,) = reply.choices
    message = choice.message
    assert message.reasoning.startswith("Okay, let me think.") and message.content == "The answer is \\boxed{25}."
    assert message.reasoning_content == message.reasoning
    assert choice.finish_reason == "stop" and reply.model == "mull@0.7" and reply.object == "chat.completion"
    usage = reply.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prompt_tokens == len(server.engine.render(ask()))
    raw = server.client.completions.create(
        model="mull@0.7", prompt=list(server.engine.render(ask())), temperature=0, max_tokens=400
    )
    text = raw.choices[0].text
    assert raw.usage.completion_tokens == usage.completion_tokens == len(ids(server, text)) + 1  # and the end of text
    assert usage.completion_tokens_details.reasoning_tokens == len(ids(server, text[: text.index("</think>")]))
    split = split_thinking(text, finished=True)
    assert (split.thought, split.answer) == (message.reasoning, message.content)


def test_an_answer_without_a_thought_is_content_and_has_no_reasoning_tokens(server, ask):
    reply = server.client.chat.completions.create(model="mull@0", messages=ask(), temperature=0)
    message = reply.choices[0].message
    assert message.content.endswith("\\boxed{25}.") and message.reasoning is None
    assert reply.usage.completion_tokens_details.reasoning_tokens == 0


def test_a_stream_comes_in_chunks_while_it_is_generated(server, ask):
    for model, kind in (("mull@0.7", "reasoning"), ("mull@0", "content")):
        stream = server.client.chat.completions.create(
            model=model, messages=ask(), temperature=0, stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
        assert chunks[0].choices[0].delta.role == "assistant" and chunks[0].mull["lambda"] == float(model[5:])
        told = [getattr(chunk.choices[0].delta, kind, None) for chunk in chunks if chunk.choices]
        first = next(i for i, text in enumerate(told) if text)
        assert first <= 2 and sum(map(bool, told)) > 10
        assert chunks[-2].choices[0].finish_reason == "stop" and chunks[-1].choices == []
        assert chunks[-1].usage.completion_tokens > 10
        assert len({chunk.id for chunk in chunks}) == 1


def test_async_clients_are_answered_side_by_side(server, ask):
    async def both():
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
            whole = client.chat.completions.create(model="mull@0.4", messages=ask(), temperature=0)
            stream = await client.chat.completions.create(
                model="mull@1", messages=ask(), temperature=0, stream=True, max_tokens=30
            )
            deltas = [chunk.choices[0].delta async for chunk in stream]
            return (await whole).choices[0].message.content, deltas

    content, deltas = asyncio.run(both())
    assert content.endswith("\\boxed{25}.")
    assert "".join(getattr(delta, "reasoning", None) or "" for delta in deltas).startswith("Okay, let me think.")


def test_a_seed_reproduces_and_n_gives_different_choices(server, ask):
    def texts(seed):
        reply = server.client.chat.completions.create(
            model="mull@1", messages=ask(), n=3, seed=seed, temperature=1.0, max_tokens=60
        )
        assert [choice.index for choice in reply.choices] == [0, 1, 2]
        assert reply.usage.completion_tokens <= 180
        return [choice.message.reasoning for choice in reply.choices]

    found = texts(7)
    assert found == texts(7) and len(set(found)) == 3 and found != texts(70)


def test_several_choices_stream_by_index(server, ask):
    settings = {"model": "mull@0.7", "messages": ask(), "n": 2, "seed": 3, "temperature": 1.0}
    whole = server.client.chat.completions.create(**settings)
    told = {0: "", 1: ""}
    for chunk in server.client.chat.completions.create(**settings, stream=True):
        for choice in chunk.choices:
            told[choice.index] += getattr(choice.delta, "reasoning", None) or ""
    assert told == {choice.index: choice.message.reasoning for choice in whole.choices}


def test_stop_strings_and_limits_of_tokens(server, ask):
    create = server.client.chat.completions.create
    cut = create(model="mull@0", messages=ask(), temperature=0, stop=["answer", "?"]).choices[0]
    assert cut.finish_reason == "stop" and cut.message.content.endswith("The")
    one = create(model="mull@0", messages=ask(), temperature=0, stop="=").choices[0]
    assert "=" not in one.message.content and one.message.content
    for limit in ({"max_tokens": 5}, {"max_completion_tokens": 5}):
        short = create(model="mull@1", messages=ask(), **limit)
        assert short.choices[0].finish_reason == "length" and short.usage.completion_tokens == 5
        assert short.choices[0].message.content == "" and short.choices[0].message.reasoning


def test_greedy_and_narrow_sampling_agree(server, ask):
    def text(**settings):
        reply = server.client.chat.completions.create(model="mull@0.7", messages=ask(), **settings)
        return reply.choices[0].message.reasoning

    greedy = text(temperature=0)
    assert text(temperature=1.5, extra_body={"top_k": 1}, seed=5) == greedy
    assert text(temperature=1.0, top_p=1e-9, seed=6) == greedy
    assert text(temperature=1.5, top_p=1.0, extra_body={"top_k": -1}, seed=5) != greedy


def test_logprobs_of_chats_and_texts(server, ask):
    settings = {"model": "mull@0.7", "messages": ask(), "temperature": 0, "logprobs": True, "top_logprobs": 3}
    reply = server.client.chat.completions.create(**settings)
    content = reply.choices[0].logprobs.content
    assert len(content) == reply.usage.completion_tokens
    for each in content:
        assert len(each.top_logprobs) == 3 and each.top_logprobs[0].token == each.token
        assert each.logprob == pytest.approx(each.top_logprobs[0].logprob, abs=1e-5) and each.logprob <= 0
        assert bytes(each.bytes).decode() == each.token
    streamed = [
        each
        for chunk in server.client.chat.completions.create(**settings, stream=True)
        if chunk.choices and chunk.choices[0].logprobs
        for each in chunk.choices[0].logprobs.content
    ]
    assert [each.token for each in streamed] == [each.token for each in content]
    plain = server.client.chat.completions.create(**settings | {"top_logprobs": 0})
    assert plain.choices[0].logprobs.content[0].top_logprobs == []

    prompt = list(server.engine.render(ask()))
    text = server.client.completions.create(model="mull@0.7", prompt=prompt, temperature=0, logprobs=2)
    logprobs = text.choices[0].logprobs
    assert logprobs.tokens == [each.token for each in content]
    assert all(len(top) == 2 for top in logprobs.top_logprobs)
    assert logprobs.text_offset[:3] == [0, 4, 5] and len(logprobs.token_logprobs) == len(content)
    parts = server.client.completions.create(model="mull@0.7", prompt=prompt, temperature=0, logprobs=2, stream=True)
    told = [chunk.choices[0].logprobs for chunk in parts if chunk.choices[0].logprobs]
    assert [token for each in told for token in each.tokens] == logprobs.tokens
    assert [offset for each in told for offset in each.text_offset] == logprobs.text_offset


def test_text_completions_are_raw_text_streamed_or_not(server, ask):
    tokenizer = server.engine.prompts.tokenizer
    text = tokenizer.decode(server.engine.render(ask()), skip_special_tokens=False)
    create = server.client.completions.create
    for prompt in (text, [text], [list(server.engine.render(ask()))]):
        settings = {"model": "mull@0.7", "prompt": prompt, "temperature": 0, "max_tokens": 400}
        whole = create(**settings).choices[0].text
        assert "</think>\n\nThe answer is" in whole
        assert "".join(chunk.choices[0].text for chunk in create(**settings, stream=True)) == whole
    both = create(model="mull@0", prompt=[text, text.replace("3 4", "1 1")], n=2, max_tokens=8, temperature=0)
    assert [choice.index for choice in both.choices] == [0, 1, 2, 3]
    assert both.choices[0].text == both.choices[1].text != both.choices[2].text


def test_budgets_under_both_names(server, ask):
    for name in ("thinking_token_budget", "thinking_budget"):
        reply = server.client.chat.completions.create(
            model="mull@1", messages=ask(), temperature=0, extra_body={name: 30}
        )
        assert reply.mull["budget"] == 30
        assert 0 < reply.usage.completion_tokens_details.reasoning_tokens <= 30
        assert "boxed" in reply.choices[0].message.content
    assert reply.choices[0].message.reasoning.startswith("Okay, let me think.")


def test_content_may_be_parts_and_a_developer_speaks_as_system(server, ask):
    create = server.client.chat.completions.create
    whole = create(model="mull@0", messages=[{"role": "system", "content": "Be brief."}, *ask()], temperature=0)
    text = ask()[0]["content"]
    parts = [{"type": "text", "text": text[:7]}, {"type": "text", "text": text[7:]}]
    messages = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}]
    same = create(model="mull@0", messages=messages, temperature=0)
    assert same.choices[0].message.content == whole.choices[0].message.content
    assert same.usage.prompt_tokens == whole.usage.prompt_tokens
    reply = whole.choices[0].message.model_dump()  # with all its fields, as clients send it back
    more = create(model="mull@0", messages=[*messages, reply, *ask("And of 1 1?")], temperature=0)
    assert more.usage.prompt_tokens > whole.usage.prompt_tokens


def test_errors_have_the_types_of_the_client(server, serve, ask):
    create = server.client.chat.completions.create
    with pytest.raises(openai.BadRequestError) as refused:
        create(model="mull@1.5", messages=ask())
    assert refused.value.param == "model" and "from 0 to 1" in refused.value.message
    with pytest.raises(openai.BadRequestError) as refused:
        create(model="mull", messages=ask(), extra_body={"lambda": -1})
    assert refused.value.param == "lambda" and refused.value.type == "invalid_request_error"
    with pytest.raises(openai.NotFoundError) as missing:
        create(model="gpt-4o", messages=ask())
    assert missing.value.code == "model_not_found" and "mull@λ" in missing.value.message
    with pytest.raises(openai.NotFoundError) as missing:
        server.client.responses.create(model="mull", input="Hello")
    assert "not supported" in missing.value.message
    with serve(key="secret-ä") as locked:
        with pytest.raises(openai.AuthenticationError):
            locked.client.models.list()
        with pytest.raises(openai.AuthenticationError):
            locked.client.with_options(api_key="secret").models.list()
        headers = {"Authorization": "Bearer secret-ä".encode()}
        assert httpx2.get(f"{locked.url}/v1/models", headers=headers).status_code == 200
        assert httpx2.get(f"{locked.url}/health").json() == {"status": "ok"}
