"""Thought and answer apart in the replies of a server that leaves both in `content`, as a vLLM without plugins does."""

from __future__ import annotations

from typing import Any

from mull.engines.local.streaming.thought import Piece, ThoughtStream
from mull.engines.vllm.marks import Reading
from mull.thinking import KNOWN


class Parting:
    """Splits the choices of one reply. A choice whose thought the server tells itself is left as it is."""

    def __init__(self, reading: Reading) -> None:
        """`reading`: how a response is read until a delimiter comes; whether the prompt opened a thought is not known
        here, so it counts as opened."""
        self._reading = reading
        self._streams: dict[int, ThoughtStream] = {}
        self._answers: dict[int, str] = {}
        """What each choice of a stream has told as its answer."""
        self._left: set[int] = set()

    def whole(self, choice: dict[str, Any]) -> None:
        """A choice with its whole message."""
        message = choice.get("message")
        if not isinstance(message, dict) or not isinstance(message.get("content"), str) or _told(message):
            return
        stream = self._stream()
        stream.push(message["content"])
        split = stream.finish(finished=choice.get("finish_reason") != "length").split
        message |= {"reasoning": split.thought or None, "content": split.answer}

    def piece(self, choice: dict[str, Any]) -> None:
        """A choice of a stream, with a piece of its message."""
        delta, finish, index = choice.get("delta"), choice.get("finish_reason"), choice.get("index", 0)
        if not isinstance(delta, dict):
            return
        if _told(delta):
            self._left.add(index)
        if index in self._left:
            return
        stream, text = self._streams.setdefault(index, self._stream()), delta.get("content")
        pieces = list(stream.push(text)) if isinstance(text, str) else []
        if finish:
            pieces += self._last(index, stream, pieces, finished=finish != "length")
        thought, answer = ("".join(each.text for each in pieces if each.kind == kind) for kind in ("thought", "answer"))
        self._answers[index] = self._answers.get(index, "") + answer
        if thought:
            delta["reasoning"] = thought
        if answer or isinstance(text, str):
            delta["content"] = answer

    def _last(self, index: int, stream: ThoughtStream, pieces: list[Piece], *, finished: bool) -> list[Piece]:
        """What is left at the end. An answer that was told as a thought is told once more, as what it is."""
        parted = stream.finish(finished=finished)
        left = list(parted.pieces)
        answers = [each.text for each in (*pieces, *left) if each.kind == "answer"]
        told, answer = "".join([self._answers.get(index, ""), *answers]), parted.split.answer
        if parted.corrected and answer != told and answer.startswith(told):
            left.append(Piece("answer", answer[len(told) :]))
        return left

    def _stream(self) -> ThoughtStream:
        direct = self._reading in (Reading.direct, Reading.plain)
        return ThoughtStream(KNOWN, opened=True, hold=self._reading is Reading.hold, direct=direct)


def _told(message: dict[str, Any]) -> bool:
    return any(isinstance(message.get(name), str) for name in ("reasoning", "reasoning_content"))
