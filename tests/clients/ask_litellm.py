"""LiteLLM as a library: at once and as a stream, with the thought."""

import sys

import litellm

ASK = {
    "model": "openai/mull@0.4",
    "api_base": sys.argv[1],
    "api_key": "none",
    "messages": [{"role": "user", "content": "What is the sum of 3 4 5 6 7?"}],
    "temperature": 0,
}
reply = litellm.completion(**ASK)
assert "boxed" in reply.choices[0].message.content and reply.usage.completion_tokens > 5
chunks = list(litellm.completion(**ASK, stream=True))
assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == reply.choices[0].message.content
thinking = litellm.completion(**{**ASK, "model": "openai/mull@1"})
assert len(thinking.choices[0].message.reasoning_content) > 50
