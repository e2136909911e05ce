"""Stop strings, found in text that comes in pieces."""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Passes text on until one of `stops` is complete. Text that may be the beginning of one is held back.

    The first to be complete counts, character by character, so that the pieces in which the text comes make no
    difference. Of two that end at the same character the longer one counts.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = sorted(stops, key=len, reverse=True)
        self._held = ""
        self.found: str | None = None
        """The stop string that was found; nothing is passed on after it."""

    def push(self, text: str) -> str:
        """The text that lies before any stop string."""
        if self.found is not None or not self._stops:
            return "" if self.found is not None else text
        text = self._held + text
        places = [(place + len(stop), stop) for stop in self._stops if (place := text.find(stop)) >= 0]
        if places:
            end, self.found = min(places, key=lambda place: place[0])
            self._held = ""
            return text[: end - len(self.found)]
        kept = max(unfinished(text, stop) for stop in self._stops)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]

    def finish(self) -> str:
        """What was held back and turned out to be no stop string."""
        held, self._held = self._held, ""
        return held


def unfinished(text: str, word: str) -> int:
    """Number of characters at the end of `text` that are the beginning of `word`, but not all of it."""
    return next((n for n in range(min(len(word) - 1, len(text)), 0, -1) if text.endswith(word[:n])), 0)
