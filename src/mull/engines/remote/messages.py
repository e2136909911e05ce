"""The message of a reply, in every shape that servers of OpenAI's chat API give it, as the model wrote it.

A thought comes in the text, in a field beside it, in a part of a list, or twice. Knows no HTTP and no token counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from mull.engines.remote.refusals import TemporaryError
from mull.thinking import CLOSE, OPEN, split_thinking

THOUGHT_FIELDS = ("reasoning_content", "reasoning", "thinking", "reasoning_details")
"""Fields that servers put the thought into: DeepSeek, vLLM, SGLang, llama.cpp; newer vLLM, OpenRouter, Together, Groq;
Ollama; OpenRouter. Where several are given, they hold the same thought."""

Kind = Literal["text", "thought", "refusal", "call", "hidden"]
_PARTS: dict[str, Kind] = {
    "text": "text",
    "output_text": "text",
    "thinking": "thought",
    "reasoning": "thought",
    "reasoning_text": "thought",
    "reasoning.text": "thought",
    "reasoning.summary": "thought",
    "summary_text": "thought",
    "refusal": "refusal",
    "tool_use": "call",
    "tool_call": "call",
    "function_call": "call",
    "redacted_thinking": "hidden",
    "reasoning.encrypted": "hidden",
}
"""What the parts of a list hold, by their type."""
_TEXT_FIELDS = ("text", "thinking", "reasoning", "summary", "content", "refusal", "value")
_DEEPEST = 4
"""Levels of lists and objects in a content; Mistral's thought takes three."""


class Message(NamedTuple):
    """What a message, or a piece of it in a stream, holds."""

    thought: str
    content: str
    refusal: str
    called: bool
    """Whether the model called a tool."""


def read_message(message: Any) -> Message:
    """Raises `TemporaryError` if it is no message, or if its content is no text."""
    if not isinstance(message, dict):
        raise TemporaryError("a reply without a message in it")
    parts = list(_parts(message.get("content"), "text"))
    found = {kind: "".join(text for its, text in parts if its == kind) for kind in ("text", "thought", "refusal")}
    thoughts = ("".join(text for _, text in _parts(message.get(name), "thought")) for name in THOUGHT_FIELDS)
    thought = next(filter(None, thoughts), found["thought"])
    refusal = message.get("refusal")
    refusal = refusal if isinstance(refusal, str) else ""
    called = bool(message.get("tool_calls") or message.get("function_call")) or any(its == "call" for its, _ in parts)
    return Message(thought, found["text"], refusal or found["refusal"], called)


def _parts(value: Any, kind: Kind, depth: int = 0) -> Iterator[tuple[Kind, str]]:
    """The texts in a content, each with what it is."""
    if isinstance(value, str):
        yield kind, value
    elif isinstance(value, list) and depth < _DEEPEST:
        for each in value:
            yield from _parts(each, kind, depth + 1)
    elif isinstance(value, dict) and depth < _DEEPEST:
        own = _PARTS.get(str(value.get("type") or "text"))
        if own is None:
            raise TemporaryError("a reply whose content is no text")
        own = "thought" if own == "text" and kind == "thought" else own
        if own == "call":
            yield own, ""
        elif own != "hidden":
            text = next((value[name] for name in _TEXT_FIELDS if value.get(name) is not None), None)
            yield from _parts(text, own, depth + 1)
    elif value is not None:
        raise TemporaryError("a reply whose content is no text")


def joined(reasoning: str, content: str, finish: str, *, hidden: bool = False) -> str:
    """The response as the model wrote it, from a server that returns the thought separately, or returns it twice.

    Such servers return all text before `</think>` as thought. So a finished response with thought but without answer
    had no `</think>`: it is a direct answer and gets no tags. `hidden`: the server says that there was a thought, and
    does not show it.
    """
    if not reasoning and not hidden:
        return content
    whole = split_thinking(content, finished=True)
    if not reasoning:
        if whole.kind != "none":
            return content
        return f"{OPEN}\n{CLOSE}\n\n{content.lstrip()}" if content.strip() or finish == "stop" else OPEN
    inner = split_thinking(reasoning, finished=True)
    if inner.kind == "closed" and not content.strip():
        return reasoning  # all of the response is in this field
    if inner.kind == "unclosed" or (inner.kind == "closed" and inner.answer in ("", content.strip())):
        reasoning = inner.thought  # its own tags are not doubled
    if whole.kind != "none" and _same(whole.thought, reasoning):
        return content
    if whole.kind == "closed":
        reasoning = f"{reasoning.strip()}\n\n{whole.thought}".strip()
        content = content[whole.end :]
    if finish == "length" and _same(content, reasoning):  # one thought twice; a finished answer may repeat its thought
        content = ""
    if content.strip():
        return f"{OPEN}\n{reasoning.strip()}\n{CLOSE}\n\n{content.lstrip()}"
    return f"{OPEN}\n{reasoning.strip()}" if finish == "length" else reasoning


def _same(one: str, other: str) -> bool:
    """Whether two texts are equal up to white space, which parsers add and remove."""
    return one.split() == other.split()
