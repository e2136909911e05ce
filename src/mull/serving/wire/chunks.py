"""The chunks of a streamed reply."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mull.engines.local.streams import Ended, Token
from mull.serving.wire import replies
from mull.serving.wire.replies import Answered, Head, TokenLogprob


class Chunks:
    """Makes the chunks of one reply, whose choices come token by token."""

    def __init__(self, head: Head, *, chat: bool) -> None:
        self._head, self._chat = head, chat
        self._kind = "chat.completion.chunk" if chat else "text_completion"
        self._content: dict[int, str] = {}
        """What has been told as content of each choice."""
        self._places: Counter[int] = Counter()
        """Where in its text the next token of each choice begins."""

    def opening(self, choices: int) -> list[dict[str, Any]]:
        """What comes before the first token."""
        if not self._chat:
            return []
        delta = {"role": "assistant", "content": ""}
        return [self._choice(index, mull=self._head.mull, delta=delta) for index in range(choices)]

    def of(self, index: int, event: Token | Ended, logprobs: list[TokenLogprob] | None) -> list[dict[str, Any]]:
        """What an event adds to a choice."""
        if not self._chat:
            return self._text(index, event, logprobs)
        chunks = []
        told = None if logprobs is None else {"content": [each.record() for each in logprobs]}
        for piece in event.pieces:
            delta = replies.reasoning(piece.text) if piece.kind == "thought" else self._said(index, piece.text)
            chunks.append(self._choice(index, delta=delta, logprobs=told))
            told = None
        if told is not None:
            chunks.append(self._choice(index, delta={}, logprobs=told))
        if isinstance(event, Ended) and event.finished is not None and event.split is not None:
            answer, said = event.split.answer, self._content.get(index, "")
            if event.corrected and answer != said and answer.startswith(said):
                # What was told as a thought is the answer: clients that read content alone must have it, too.
                chunks.append(self._choice(index, delta=self._said(index, answer[len(said) :])))
            mull = {**self._head.mull, **({"corrected": True} if event.corrected else {})}
            chunks.append(self._choice(index, delta={}, finish=event.finished.finish, mull=mull))
        return chunks

    def usage(self, prompts: Sequence[int], answers: Sequence[Answered]) -> dict[str, Any]:
        """The last chunk, where a client asked for it."""
        return self._head.of(self._kind, choices=[], usage=replies.usage(prompts, answers))

    def _text(self, index: int, event: Token | Ended, logprobs: list[TokenLogprob] | None) -> list[dict[str, Any]]:
        chunks = []
        if event.text or logprobs:
            told = replies.listed(logprobs, self._places[index])
            self._places[index] += sum(len(each.text) for each in logprobs or ())
            chunks.append(self._choice(index, text=event.text, logprobs=told))
        if isinstance(event, Ended) and event.finished is not None:
            chunks.append(self._choice(index, text="", finish=event.finished.finish, mull=self._head.mull))
        return chunks

    def _said(self, index: int, text: str) -> dict[str, Any]:
        self._content[index] = self._content.get(index, "") + text
        return {"content": text}

    def _choice(
        self,
        index: int,
        *,
        finish: str | None = None,
        logprobs: Any = None,
        mull: Mapping[str, Any] | None = None,
        **rest: Any,
    ) -> dict[str, Any]:
        choice = {"index": index, **rest, "logprobs": logprobs, "finish_reason": finish}
        return self._head.of(self._kind, choices=[choice], **({"mull": dict(mull)} if mull else {}))
