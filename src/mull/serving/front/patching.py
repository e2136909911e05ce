"""What a reply becomes before the client reads it: λ in it, and the thought under both names. Knows no HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from mull.serving.front.parting import Parting
from mull.serving.front.rewriting import Route


class Patch:
    """Patches the reply to one request: `whole`, or `push` for the pieces of a stream."""

    def __init__(self, route: Route, model: str, mull: Mapping[str, Any], parting: Parting | None = None) -> None:
        """`model`: its name for the client. `mull`: what is said of λ. `parting`: splits thought and answer of chats,
        where the server does not."""
        self.route, self._model, self._mull = route, model, dict(mull)
        self._parting = parting if route is Route.chat else None
        self.usage: Mapping[str, Any] = {}
        """Of the reply, once it is known."""
        self._rest = b""
        self._begun: set[int] = set()
        """Choices of a stream that have been told their λ."""
        self._told: dict[int, dict[str, list[str]]] = {}
        """The pieces of thought and answer of each choice of a stream."""

    def whole(self, reply: dict[str, Any]) -> dict[str, Any]:
        """A reply that is no error."""
        self._named(reply)
        reply["mull"] = self._mull
        for choice in _objects(reply.get("choices")):
            if self._parting:
                self._parting.whole(choice)
            _both_names(choice.get("message"))
        return reply

    def push(self, content: bytes) -> bytes:
        """The events of a stream that are whole now and were not before."""
        *events, self._rest = (self._rest + content).replace(b"\r\n", b"\n").split(b"\n\n")
        return b"".join(self._event(event) + b"\n\n" for event in events)

    def finish(self) -> bytes:
        """What is left at the end of a stream."""
        rest, self._rest = self._rest, b""
        return self._event(rest) if rest else b""

    def _event(self, event: bytes) -> bytes:
        lines = event.split(b"\n")
        data = [i for i, line in enumerate(lines) if line.startswith(b"data:")]
        if len(data) != 1:
            return event  # a comment that keeps the connection open
        try:
            value = json.loads(lines[data[0]][len(b"data:") :])
        except ValueError:
            return event  # [DONE]
        if not isinstance(value, dict) or "error" in value:
            return event
        self._chunk(value)
        lines[data[0]] = b"data: " + dumped(value)
        return b"\n".join(lines)

    def _chunk(self, chunk: dict[str, Any]) -> None:
        if self.route is Route.responses:
            response = chunk.get("response")
            if isinstance(response, dict):
                self._named(response)
                response["mull"] = self._mull
            return
        self._named(chunk)
        for choice in _objects(chunk.get("choices")):
            index, finish = choice.get("index", 0), choice.get("finish_reason")
            if self._parting:
                self._parting.piece(choice)
            _both_names(choice.get("delta"))
            if self._tells(choice, index):
                chunk["mull"] = self._mull | ({"corrected": True} if finish and self._corrected(index) else {})
            if finish:
                self._told.pop(index, None)

    def _tells(self, choice: dict[str, Any], index: int) -> bool:
        """Whether a chunk says which λ it has: the first and the last of each choice."""
        for kind, text in _texts(choice):
            self._told.setdefault(index, {}).setdefault(kind, []).append(text)
        first = index not in self._begun
        self._begun.add(index)
        return first or bool(choice.get("finish_reason"))

    def _corrected(self, index: int) -> bool:
        """Whether what a choice told as a thought has come once more as its answer."""
        told = self._told.get(index, {})
        thought, answer = ("".join(told.get(kind, ())).strip() for kind in ("reasoning", "content"))
        return bool(thought) and answer.startswith(thought)

    def _named(self, reply: dict[str, Any]) -> None:
        if "model" in reply:
            reply["model"] = self._model
        if isinstance(reply.get("usage"), dict):
            self.usage = reply["usage"]


def dumped(value: Any) -> bytes:
    """JSON in one line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def _both_names(message: Any) -> None:
    """The thought of a message or a delta as `reasoning` and `reasoning_content`."""
    if not isinstance(message, dict):
        return
    for one, other in (("reasoning", "reasoning_content"), ("reasoning_content", "reasoning")):
        if one in message and message.get(other) is None:
            message[other] = message[one]


def _texts(choice: dict[str, Any]) -> Iterator[tuple[str, str]]:
    delta = choice.get("delta")
    for kind in ("reasoning", "content"):
        text = delta.get(kind) if isinstance(delta, dict) else None
        if isinstance(text, str):
            yield kind, text


def _objects(found: Any) -> list[dict[str, Any]]:
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
