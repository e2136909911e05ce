"""A reply that is streamed as server-sent events, put together to the one that a server would have sent whole.

Reads what the HTML standard allows and what servers make of it: lines that end in any way and are cut anywhere,
comments, events of several lines, a last event without a blank line, JSON without the word data. What is kept grows
with the text alone.
"""

from __future__ import annotations

import json
import re
from io import StringIO
from typing import Any

from mull.engines.remote.messages import read_message
from mull.engines.remote.refusals import ErrorReply, Problem, TemporaryError, clipped, error_in

LARGEST_EVENT = 16 << 20
"""Bytes of one event."""
_LINE_END = re.compile(rb"\r\n|\n|\r")


class StreamedReply:
    """Takes the bytes of a stream as they come."""

    def __init__(self) -> None:
        self.done = False
        """Whether the server has said that nothing more comes."""
        self._line, self._data = bytearray(), bytearray()
        self._after_return, self._first, self._event = False, True, b""
        self._thought, self._content, self._refusal = StringIO(), StringIO(), StringIO()
        self._called = False
        self._reason: Any = None
        self._counted: dict[str, Any] = {}

    def feed(self, data: bytes) -> None:
        """Raises `ErrorReply` for an error among the events, `TemporaryError` for what is no event."""
        if not data or self.done:
            return
        if self._after_return and data.startswith(b"\n"):  # the second half of a line end
            data = data[1:]
        self._after_return = data.endswith(b"\r")
        *ended, rest = _LINE_END.split(data)
        if ended:
            ended[0], self._line = bytes(self._line) + ended[0], bytearray()
        for line in ended:
            if not line.startswith(b":"):
                self._take(line)
        self._line += rest
        if len(self._line) + len(self._data) > LARGEST_EVENT:
            raise TemporaryError(f"an event of more than {LARGEST_EVENT >> 20} MiB")

    def whole(self) -> dict[str, Any]:
        """The reply. Raises `TemporaryError` if the stream broke off before its end."""
        if not self.done:
            self._take(bytes(self._line))
            self._take(b"")
        if self._reason is None:
            raise TemporaryError("the stream broke off, without a finish reason")
        if not self.done and not self._counted:
            raise TemporaryError("the stream broke off, without token counts and [DONE]")
        message = {
            "reasoning": self._thought.getvalue(),
            "content": self._content.getvalue(),
            "refusal": self._refusal.getvalue(),
            "tool_calls": self._called,
        }
        return {"choices": [{"message": message, "finish_reason": self._reason}], **self._counted}

    def _take(self, line: bytes) -> None:
        if self._first:
            self._first, line = False, line.removeprefix(b"\xef\xbb\xbf")
        name, colon, value = line.partition(b":")
        if not line:
            data, event = bytes(self._data), self._event
            self._data, self._event = bytearray(), b""
            if data and not self.done:
                self._dispatch(data.strip(), event)
        elif name == b"data" and colon:
            self._data += value.removeprefix(b" ") + b"\n"
        elif name == b"event":
            self._event = value.strip()
        elif line.startswith(b"{"):
            self._data += line + b"\n"

    def _dispatch(self, data: bytes, event: bytes) -> None:
        try:
            pieces = [data] if data == b"[DONE]" else [json.loads(data)]
        except (ValueError, RecursionError):
            pieces = [_json(line, event) for line in data.split(b"\n") if line.strip()]  # no blank line between two
        for piece in pieces:
            if piece == b"[DONE]":
                self.done = True
                return
            self._add(piece, event)

    def _add(self, piece: Any, event: bytes) -> None:
        problem = error_in(piece)
        if problem or event == b"error":
            raise ErrorReply(problem or Problem(500, clipped(str(piece)), in_reply=True))
        if not isinstance(piece, dict):
            raise TemporaryError("an event that is no object")
        for key in ("usage", "x_groq", "timings"):
            if isinstance(piece.get(key), dict) and piece[key]:
                self._counted[key] = piece[key]
        choices = piece.get("choices") or []
        if not isinstance(choices, list):
            raise TemporaryError("an event whose choices are no list")
        for choice in choices:
            if not isinstance(choice, dict):
                raise TemporaryError("an event whose choice is no object")
            if choice.get("index") in (0, None):
                self._add_choice(choice)

    def _add_choice(self, choice: dict[str, Any]) -> None:
        delta = choice.get("delta")
        kept = (self._thought, self._content, self._refusal)
        if not delta and isinstance(choice.get("message"), dict):  # not a piece, but all so far
            delta = choice["message"]
            for each in kept:
                each.seek(0)
                each.truncate()
        if delta:
            found = read_message(delta)
            for each, text in zip(kept, found[:3], strict=True):
                each.write(text)
            self._called = self._called or found.called
        reason = choice.get("finish_reason")
        if reason not in (None, "", "null"):
            self._reason = reason


def _json(line: bytes, event: bytes) -> Any:
    """The JSON of a line; the line itself if it says that the stream is done."""
    if line.strip() == b"[DONE]":
        return b"[DONE]"
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        if event == b"error":
            return line.decode(errors="replace")
        raise TemporaryError("an event that is no JSON") from None
