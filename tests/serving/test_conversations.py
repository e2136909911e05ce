"""The turns of a conversation: what earlier ones left is used again, replies say how much, and texts stay the same."""

from __future__ import annotations

import pytest

from .test_metrics import samples

QUESTIONS = ("What is the sum of 3 4 5 6 7?", "Find the total of 7 0 0 8 0 2 5.", "Add up 1 2 3 4.", "Add up 5 6 7.")


def conversation(server, model, *, stream=False):
    """Texts of all turns, and their usage."""
    messages, texts, used = [], [], []
    for question in QUESTIONS:
        messages.append({"role": "user", "content": question})
        options = {"model": model, "messages": messages, "temperature": 0}
        if stream:
            told = {"stream": True, "stream_options": {"include_usage": True}}
            *chunks, last = server.client.chat.completions.create(**options, **told)
            content = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            usage = last.usage
        else:
            reply = server.client.chat.completions.create(**options)
            content, usage = reply.choices[0].message.content, reply.usage
        messages.append({"role": "assistant", "content": content})
        texts.append(content)
        used.append(usage)
    return texts, used


@pytest.mark.parametrize("model", ["mull@0", "mull@0.7"])
def test_later_turns_reuse_the_earlier_ones_and_say_so(serve, model):
    with serve() as kept, serve(prefix_bytes=0) as whole:
        texts, used = conversation(kept, model)
        others, unused = conversation(whole, model, stream=True)
        after = samples(kept)
    assert texts == others
    cached = [usage.prompt_tokens_details.cached_tokens for usage in used]
    assert cached[0] == 0 and 32 <= cached[2] < cached[3]
    for earlier, usage, tokens in zip(used, used[1:], cached[1:], strict=False):
        # All of the turn before but what its template writes before a response, and at most 15 to round up.
        assert tokens == 0 or earlier.prompt_tokens - 8 - 16 < tokens < usage.prompt_tokens
    assert [usage.prompt_tokens_details.cached_tokens for usage in unused] == [0, 0, 0, 0]
    assert after[("mull_cached_prompt_tokens_total",)] == sum(cached)
    assert after[("mull_prompt_tokens_total",)] == sum(usage.prompt_tokens for usage in used)


def test_a_stream_tells_what_was_cached_too_and_another_lambda_gets_nothing(serve, ask):
    with serve() as server:
        _, used = conversation(server, "mull@0", stream=True)
        assert used[3].prompt_tokens_details.cached_tokens > 32
        long = ask(" ".join(QUESTIONS))
        for model, cached in (("mull@0", False), ("mull@0", True), ("mull@0.1", False)):
            reply = server.client.chat.completions.create(model=model, messages=long, max_tokens=1)
            assert (reply.usage.prompt_tokens_details.cached_tokens > 0) == cached


def test_the_choices_of_one_prompt_count_it_once(serve, ask):
    long = ask(" ".join(QUESTIONS))
    with serve() as server:
        options = {"model": "mull@0.5", "messages": long, "max_tokens": 5, "n": 3}
        first, second = (server.client.chat.completions.create(**options).usage for _ in range(2))
        prompts = [list(server.engine.render(ask(text))) for text in (" ".join(QUESTIONS), "Add up 1.")]
        both = server.client.completions.create(model="mull@0.5", prompt=prompts, max_tokens=5, n=2).usage
    assert first.prompt_tokens_details.cached_tokens == 0
    assert second.prompt_tokens_details.cached_tokens == second.prompt_tokens - 1
    assert both.prompt_tokens_details.cached_tokens == second.prompt_tokens - 1
    assert both.prompt_tokens == sum(map(len, prompts))
