"""The shapes of everything the server says: the OpenAPI document shows them, and pyright holds the replies to them."""

from __future__ import annotations

from typing import Literal, NotRequired

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict  # pydantic takes that of `typing` from Python 3.12 on only

_closed = with_config(ConfigDict(extra="forbid"))
"""The server says nothing that is not documented here."""


@_closed
class Problem(TypedDict):
    """What is wrong with a request, or with the server."""

    message: str
    type: str
    param: str | None
    code: str | None


@_closed
class Refusal(TypedDict):
    """Every reply that is no answer."""

    error: Problem


@_closed
class Cost(TypedDict):
    """Tokens that were spent to choose λ."""

    generated: int
    prefilled: int


Mull = _closed(
    TypedDict(
        "Mull",
        {
            "lambda": float,
            "source": str,
            "budget": int | None,
            "cost": NotRequired[Cost],
            "lowered_from": NotRequired[float | None],
            "corrected": NotRequired[bool],
        },
    )
)
"""The λ of a reply, where it comes from, and the thinking budget."""


@_closed
class ReasoningTokens(TypedDict):
    reasoning_tokens: int


@_closed
class CachedTokens(TypedDict):
    """Tokens of prompts whose keys and values were kept from an earlier turn."""

    cached_tokens: int


@_closed
class Usage(TypedDict):
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    completion_tokens_details: ReasoningTokens
    prompt_tokens_details: CachedTokens


@_closed
class Alternative(TypedDict):
    token: str
    logprob: float
    bytes: list[int]


@_closed
class ToldToken(Alternative):
    """A token of the response, and the likeliest ones at its place."""

    top_logprobs: list[Alternative]


@_closed
class ChatLogprobs(TypedDict):
    content: list[ToldToken]


@_closed
class TextLogprobs(TypedDict):
    """Lists side by side, one entry a token."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


Finish = Literal["stop", "length"]


@_closed
class Reasoning(TypedDict):
    """The thought under both names."""

    reasoning: str | None
    reasoning_content: str | None


@_closed
class AnswerMessage(Reasoning):
    role: Literal["assistant"]
    content: str


@_closed
class ChatChoice(TypedDict):
    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: Finish


@_closed
class TextChoice(TypedDict):
    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Finish


@_closed
class ChatCompletion(TypedDict):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    mull: Mull


@_closed
class TextCompletion(TypedDict):
    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage
    mull: Mull


@_closed
class Delta(TypedDict, total=False):
    """What is new: the role first, then pieces of the thought, then pieces of the answer."""

    role: Literal["assistant"]
    content: str
    reasoning: str
    reasoning_content: str


@_closed
class ChatChunkChoice(TypedDict):
    index: int
    delta: Delta
    logprobs: ChatLogprobs | None
    finish_reason: Finish | None


@_closed
class ChatChunk(TypedDict):
    """An event of a streamed chat completion."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: NotRequired[Usage]
    mull: NotRequired[Mull]


@_closed
class TextChunkChoice(TypedDict):
    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Finish | None


@_closed
class TextChunk(TypedDict):
    """An event of a streamed text completion."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChunkChoice]
    usage: NotRequired[Usage]
    mull: NotRequired[Mull]


@_closed
class Choice(TypedDict):
    """The λ of a conversation, without an answer."""

    model: str
    mull: Mull


@_closed
class Model(TypedDict):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str


@_closed
class Models(TypedDict):
    object: Literal["list"]
    data: list[Model]


@_closed
class Health(TypedDict):
    status: Literal["ok"]
