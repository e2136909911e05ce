"""Reads one response token by token: text, stop strings, thought and answer."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mull.engines.local.streaming.stops import StopStrings
from mull.engines.local.streaming.text import TextStream
from mull.engines.local.streaming.thought import Parted, Piece, ThoughtStream
from mull.thinking import ThinkTags


class ResponseReader:
    """`push` each token until `stopped`, then `finish`."""

    def __init__(
        self,
        text: TextStream,
        dropped: Collection[int],
        tags: Sequence[ThinkTags],
        stop: Sequence[str],
        *,
        opened: bool,
        hold: bool,
        direct: bool = False,
    ) -> None:
        """`dropped`: tokens that are no text. For the others see the parts."""
        self._text, self._dropped = text, dropped
        self._stops = StopStrings(stop)
        self._thinks = opened and not hold and not direct
        self.certain = ""
        """What the last call added to the text."""
        self._thought = ThoughtStream(tags, opened=opened, hold=hold, direct=direct)

    @property
    def stopped(self) -> str | None:
        """The stop string before which the text ends."""
        return self._stops.found

    @property
    def text(self) -> str:
        """The text so far; after `finish` all of it, which is cut before a stop string."""
        return self._thought.text

    def push(self, token: int) -> tuple[Piece, ...]:
        """The pieces that are certain now and were not before."""
        self.certain = "" if token in self._dropped else self._stops.push(self._text.push(token))
        return self._thought.push(self.certain)

    def finish(self, whole: str, *, finished: bool) -> Parted:
        """`whole`: the text of all tokens. `finished`: the response ended by itself, not at the token limit."""
        self.certain = self._stops.push(self._text.finish(whole)) + self._stops.finish()
        before = self._thought.push(self.certain)
        if self.stopped is not None:  # what was told as a thought is one; else a text without a thought is an answer
            finished = not self._thinks
        parted = self._thought.finish(finished=finished)
        return parted._replace(pieces=before + parted.pieces)
