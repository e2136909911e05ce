"""Token ids to text, piece by piece: the pieces joined are the text of the whole response.

A tokenizer decodes a token differently at the beginning, inside a character of several tokens, or before punctuation.
So a few tokens are decoded again with each new one, and text that a later token may still change is held back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence

CONTEXT = 8
"""Pieces whose tokens are decoded again before a new token."""
WINDOW = 32
"""Tokens from which the window is cut back to its context."""
_UNFINISHED = "\ufffd"
"""What the first bytes of a character are decoded to."""


class TextStream:
    """The text of one response. `push` each token, then `finish`."""

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        *,
        byte_ids: Collection[int] = frozenset(),
        clean: Callable[[str], str] | None = None,
    ) -> None:
        """`decode` gives the text of tokens, and `clean` removes the spaces before punctuation from it, where the
        tokenizer does so. `byte_ids`: tokens of one byte each. A run of them is decoded as a whole, so it is held back
        until it ends."""
        self._decode, self._byte_ids = decode, byte_ids
        self._cleaner = Cleaner(clean) if clean else None
        self._window: list[int] = []
        self._text = ""
        """The text of the window that has been given out."""
        self._ends: list[int] = []
        """Numbers of tokens of the window after which a piece was given out."""
        self._retry = 0
        self._out: list[str] = []

    def push(self, token: int) -> str:
        """The text that is certain now and was not before; may be empty."""
        self._window.append(token)
        size = len(self._window)
        if token in self._byte_ids or size < self._retry:
            return ""
        text = self._decode(self._window)
        if text.endswith(_UNFINISHED) or not text.startswith(self._text):
            # A long run without an end would otherwise be decoded anew at each of its tokens.
            self._retry = size + (size - (self._ends[-1] if self._ends else 0)) // CONTEXT
            return ""
        piece, self._text, self._retry = text[len(self._text) :], text, 0
        self._ends.append(size)
        if size > WINDOW and len(self._ends) > CONTEXT:
            cut = self._ends[-CONTEXT - 1]
            self._window = self._window[cut:]
            self._ends = [end - cut for end in self._ends[-CONTEXT:]]
            self._text = self._decode(self._window)
        if self._cleaner is not None:
            piece = self._cleaner.push(piece)
        self._out.append(piece)
        return piece

    def finish(self, whole: str) -> str:
        """What is missing of the `whole` text."""
        out = "".join(self._out)
        return whole.removeprefix(out) if whole.startswith(out) else ""


class Cleaner:
    """Removes spaces before punctuation as transformers' `clean_up_tokenization` does, on a text that is growing.

    All that it replaces begins with a space, and only before one of the characters `.?!,'n` or another space.
    """

    def __init__(self, clean: Callable[[str], str]) -> None:
        self._clean = clean
        self._raw = ""
        """Text that is not certain yet, after the last character that is (`_given` is 1 if there is one)."""
        self._given = 0

    def push(self, text: str) -> str:
        """The cleaned text that is certain now and was not before."""
        raw = self._raw + text
        # After a space that stays, the next space is the first that may be removed.
        start = max((found.end() for found in _APART.finditer(raw)), default=0)
        space = raw.find(" ", start)
        certain = raw if space < 0 else raw[:space]
        piece = self._clean(certain)[self._given :]
        self._raw = raw[max(0, len(certain) - 1) :]
        self._given = min(1, len(certain))
        return piece


_APART = re.compile(r"(?<=[^' ]) (?=[^ .?!,'n])")
"""A space that no replacement touches."""
