"""openai: at once, asynchronously, as a stream, with logprobs, and an error that it understands."""

import asyncio
import sys

import openai

URL = sys.argv[1]
ASK = {
    "model": "mull@0.4",
    "messages": [{"role": "user", "content": "What is the sum of 3 4 5 6 7?"}],
    "temperature": 0,
}

client = openai.OpenAI(base_url=URL, api_key="none")
assert "mull@auto" in [model.id for model in client.models.list()]
reply = client.chat.completions.create(**ASK, logprobs=True, top_logprobs=2)
message = reply.choices[0].message
assert "boxed" in message.content and reply.model == "mull@0.4" and reply.mull["lambda"] == 0.4
assert len(reply.choices[0].logprobs.content) == reply.usage.completion_tokens


async def at_the_same_time():
    async with openai.AsyncOpenAI(base_url=URL, api_key="none") as client:
        return await asyncio.gather(*(client.chat.completions.create(**ASK) for _ in range(5)))


assert {each.choices[0].message.content for each in asyncio.run(at_the_same_time())} == {message.content}

content, usage = "", None
for chunk in client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True}):
    content += "".join(choice.delta.content or "" for choice in chunk.choices)
    usage = chunk.usage or usage
usage.prompt_tokens_details = reply.usage.prompt_tokens_details  # the first reply leaves its prompt in the cache
assert content == message.content and usage == reply.usage

try:
    client.chat.completions.create(**{**ASK, "model": "other"})
except openai.NotFoundError as error:
    assert error.code == "model_not_found"
else:
    raise AssertionError("another model was answered")
