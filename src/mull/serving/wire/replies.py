"""What the server says: replies as OpenAI's API has them and vLLM extends them.

The thought stands in `reasoning` (vLLM) and `reasoning_content` (others), the answer in `content`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mull.serving.wire import shapes


class TokenLogprob(NamedTuple):
    """One token of a response, as `logprobs` tells it."""

    text: str
    logprob: float
    alternatives: Sequence[tuple[str, float]]

    def record(self) -> shapes.ToldToken:
        top = [_token(text, logprob) for text, logprob in self.alternatives]
        return {**_token(self.text, self.logprob), "top_logprobs": top}


def _token(text: str, logprob: float) -> shapes.Alternative:
    return {"token": text, "logprob": max(logprob, -9999.0), "bytes": list(text.encode())}


@dataclass
class Answered:
    """One finished choice."""

    reasoning: str
    content: str
    finish: shapes.Finish
    tokens: int
    reasoning_tokens: int
    cached_tokens: int
    """Of its prompt."""
    logprobs: Sequence[TokenLogprob] | None = None
    text: str = ""
    """All of it, as generated."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """What all replies to one request begin with."""

    id: str
    model: str
    mull: shapes.Mull
    created: int = field(default_factory=lambda: int(time.time()))

    def of(self, kind: str, **rest: Any) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model, **rest}


def usage(prompts: Sequence[int], answers: Sequence[Answered]) -> shapes.Usage:
    """Tokens of a request: of its `prompts`, and of as many `answers` to each, in their order. Reasoning tokens leave
    the delimiters of the thought out; of a prompt's tokens those are cached that no answer's row had to compute."""
    completion, prompt = sum(answer.tokens for answer in answers), sum(prompts)
    each = len(answers) // len(prompts)
    cached = sum(min(answer.cached_tokens for answer in answers[i : i + each]) for i in range(0, len(answers), each))
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": sum(answer.reasoning_tokens for answer in answers)},
    }


def chat(head: Head, answers: Sequence[Answered], prompts: Sequence[int]) -> shapes.ChatCompletion:
    """The reply to a chat completion."""
    return {
        "id": head.id,
        "object": "chat.completion",
        "created": head.created,
        "model": head.model,
        "choices": [
            {
                "index": index,
                "message": {"role": "assistant", "content": answer.content, **reasoning(answer.reasoning or None)},
                "logprobs": _told(answer.logprobs),
                "finish_reason": answer.finish,
            }
            for index, answer in enumerate(answers)
        ],
        "usage": usage(prompts, answers),
        "mull": head.mull,
    }


def text(head: Head, answers: Sequence[Answered], prompts: Sequence[int]) -> shapes.TextCompletion:
    """The reply to a text completion, whose text holds the thought as it was written."""
    return {
        "id": head.id,
        "object": "text_completion",
        "created": head.created,
        "model": head.model,
        "choices": [
            {"index": i, "text": answer.text, "logprobs": listed(answer.logprobs), "finish_reason": answer.finish}
            for i, answer in enumerate(answers)
        ],
        "usage": usage(prompts, answers),
        "mull": head.mull,
    }


def _told(logprobs: Sequence[TokenLogprob] | None) -> shapes.ChatLogprobs | None:
    return None if logprobs is None else {"content": [each.record() for each in logprobs]}


def reasoning(thought: str | None) -> shapes.Reasoning:
    """The thought under both names."""
    return {"reasoning": thought, "reasoning_content": thought}


def listed(logprobs: Sequence[TokenLogprob] | None, place: int = 0) -> shapes.TextLogprobs | None:
    """Logprobs as text completions have them: lists side by side. The first token begins at `place` of the text."""
    if logprobs is None:
        return None
    offsets = []
    for each in logprobs:
        offsets.append(place)
        place += len(each.text)
    return {
        "tokens": [each.text for each in logprobs],
        "token_logprobs": [max(each.logprob, -9999.0) for each in logprobs],
        "top_logprobs": [dict(each.alternatives) for each in logprobs],
        "text_offset": offsets,
    }
