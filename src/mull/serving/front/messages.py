"""The text of a conversation, for the estimators of λ: they read what is said, not tools and images."""

from __future__ import annotations

from typing import Any

from mull.serving.front.rewriting import Route
from mull.serving.wire.errors import bad


def messages_of(body: dict[str, Any], route: Route) -> list[dict[str, str]] | str | list[int]:
    """What a request asks: its conversation, or its (first) prompt as text or token ids. Raises `ApiError`."""
    if route is Route.chat:
        return _conversation(body.get("messages"), "messages")
    if route is Route.responses:
        given, begins = body.get("input"), body.get("instructions")
        system = [{"role": "system", "content": begins}] if isinstance(begins, str) else []
        items = [{"role": "user", "content": given}] if isinstance(given, str) else given
        return _conversation([*system, *items] if isinstance(items, list) else items, "input")
    given = body.get("prompt")
    if isinstance(given, list) and given and isinstance(given[0], str | list):
        given = given[0]
    if isinstance(given, str) and given:
        return given
    if isinstance(given, list) and given and all(type(each) is int and 0 <= each < 1 << 31 for each in given):
        return given
    raise bad("prompt must be a text, or token ids, and not empty", "prompt")


def _conversation(given: Any, name: str) -> list[dict[str, str]]:
    if not isinstance(given, list) or not given or not all(isinstance(each, dict) for each in given):
        raise bad(f"{name} must be a list of messages, and not empty", name)
    found = []
    for each in given:
        role, text = each.get("role"), _text(each.get("content"))
        if isinstance(role, str) and text is not None:
            found.append({"role": "system" if role == "developer" else role, "content": text})
    if not found:
        raise bad(f"{name} holds no text to choose λ by", name)
    return found


def _text(content: Any) -> str | None:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    texts = [part.get("text") for part in content if isinstance(part, dict)]
    return "".join(text for text in texts if isinstance(text, str))
