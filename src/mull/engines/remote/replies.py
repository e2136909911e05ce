"""The JSON of a reply as a response: its text, how it ended, its tokens. Knows no HTTP."""

from __future__ import annotations

import re
from typing import Any, Literal, NamedTuple

from mull.engines.remote.counts import read_counts
from mull.engines.remote.messages import joined, read_message
from mull.engines.remote.refusals import ErrorReply, RequestRefused, TemporaryError, clipped, error_in

STOP = frozenset({
    "stop", "eos", "eos_token", "eos_found", "end_turn", "end_of_turn", "end_id", "stop_sequence", "stop_string_found",
    "stop_token", "stop_words", "complete", "completed",
})  # fmt: skip
"""Names of the end that the model set: OpenAI's, then those of TGI, Together, LM Studio, Anthropic, TensorRT-LLM,
Cohere, and of proxies before them."""
LENGTH = frozenset({
    "length", "max_tokens", "max_new_tokens", "max_output_tokens", "max_completion_tokens", "max_length",
    "model_length", "model_context_window_exceeded", "max_predicted_tokens_reached", "context_length_reached",
})  # fmt: skip
"""Names of the end that a limit set: OpenAI's, then those of Anthropic, Mistral, Zhipu, LM Studio, and of proxies."""
_FILTERED = "a filter took the content away"
_CALLED = "the model called a tool (start the server without a tool parser)"
_REFUSED = "the server refused to answer"
FINAL = {
    **dict.fromkeys(
        ("content_filter", "content_filtered", "sensitive", "safety", "recitation", "blocklist"), _FILTERED
    ),
    **dict.fromkeys(("prohibited_content", "guardrail_intervened"), _FILTERED),
    **dict.fromkeys(("tool_calls", "tool_call", "tool_use", "function_call"), _CALLED),
    "refusal": _REFUSED,
}
"""Endings that would come again. Any other, such as `abort` or `insufficient_system_resource`, is worth another try."""
FEW = 4
"""Tokens that may leave no text, such as the mark of the turn's end."""


class Reply(NamedTuple):
    """One response as a server gave it."""

    text: str
    tokens: int
    """Generated tokens by the server's count, thought included."""
    finish: Literal["stop", "length"]
    seconds: float
    """Wall-clock seconds of the try that succeeded."""
    prompt_tokens: int | None = None
    """Tokens of the prompt by the server's count, if it gives one."""
    thought_tokens: int | None = None
    """How many of `tokens` are reasoning, by the server's count, if it gives one."""


def read_reply(reply: Any, seconds: float = 0.0, limit: int | None = None) -> Reply:
    """The first choice in the JSON of a reply to a request with room for `limit` tokens.

    Raises:
        ErrorReply: the reply holds an error object.
        TemporaryError: there is no choice in it, or the server broke the response off.
        RequestRefused: the response ended in a way that is no answer, or its token counts cannot be true.
        MullError: there is no token count, without which responses cannot be compared.
    """
    if problem := error_in(reply):
        raise ErrorReply(problem)
    try:
        choice = reply["choices"][0]
        message, reason = choice.get("message"), choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise TemporaryError("a reply without a choice in it") from None
    finish = _finish(reason)
    found = read_message(message)
    if found.refusal:
        raise RequestRefused(f"{_REFUSED}: {clipped(found.refusal)}")
    if found.called:
        raise RequestRefused(_CALLED)
    thought, content = _sound(found.thought), _sound(found.content)
    tokens, prompt, reasoning = read_counts(reply, f"{thought} {content}", limit)
    if not tokens:
        raise TemporaryError("a reply without a text in it")
    if finish == "stop":
        thought, content = _without_end(thought), _without_end(content)
        if tokens > FEW and not (found.thought or found.content or reasoning):
            raise RequestRefused(f"a reply without a text in it, of {tokens:,} tokens by the server's count")
    hidden = bool(reasoning) and (reasoning < tokens or not content.strip())
    return Reply(joined(thought, content, finish, hidden=hidden), tokens, finish, seconds, prompt, reasoning)


def _finish(reason: Any) -> Literal["stop", "length"]:
    """Which end a finish reason names. Raises `TemporaryError` or `RequestRefused` for all that are no answer."""
    if isinstance(reason, dict):  # SGLang's own form
        reason = reason.get("type")
    if not isinstance(reason, str):
        raise TemporaryError(f"the server broke the response off (finish reason {clipped(repr(reason), 40)})")
    name = re.sub(r"(?<=[a-z])(?=[A-Z])|[-\s]", "_", reason).lower()  # maxTokens, MAX_TOKENS, max-tokens
    if name in STOP:
        return "stop"
    if name in LENGTH:
        return "length"
    shown = f"finish reason {clipped(reason, 40)!r}"
    if name in FINAL:
        raise RequestRefused(f"{FINAL[name]}, {shown}")
    raise TemporaryError(f"the server broke the response off ({shown})")


_END = re.compile(
    r"(?:(?:<\|(?:im_end|endoftext|eot_id|eot|end_of_text|end|return|end_of_turn|endofturn)\|>"
    r"|<(?:end_of_turn|turn\||eos|seed:eos|｜end▁of▁sentence｜)>)\s*)+\Z"
)


def _without_end(text: str) -> str:
    """`text` without the end-of-turn tokens at its end, which some servers (transformers serve) leave there."""
    found = _END.search(text, max(0, len(text) - 400))
    return text[: found.start()] if found else text


def _sound(text: str) -> str:
    """`text` as Unicode: halves of a character that were sent apart are joined, single ones replaced."""
    if text.isascii() or not re.search("[\ud800-\udfff]", text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
