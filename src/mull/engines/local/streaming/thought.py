"""Thought and answer apart while a response is written.

What is thought only the whole text tells (`mull.thinking.split_thinking`): a response whose prompt opened a thought may
be an answer without any. So kinds are provisional until the end, where the whole text is split and compared.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Literal, NamedTuple

from mull.thinking import (
    ANSWER_TAGS,
    TURN_ENDS,
    WORDED,
    Split,
    ThinkTags,
    family_of,
    fence_after,
    is_mention,
    marks_in,
    split_thinking,
)

Kind = Literal["thought", "answer"]


class Piece(NamedTuple):
    """Some text of a response. The pieces of one kind are its thought or its answer, without delimiters."""

    kind: Kind
    text: str


class Parted(NamedTuple):
    """The end of a response."""

    pieces: tuple[Piece, ...]
    """Those that were still held back."""
    split: Split
    """The whole text, split: what holds."""
    corrected: bool
    """Whether the pieces say something else: replace them by `split`."""


class ThoughtStream:
    """Splits the text of one response. `push` its pieces as they come, then `finish`.

    Text that may become part of a delimiter, and spaces at the end, are held back. A delimiter counts as in the whole
    text, so quoted ones do not. What a stream cannot know, `finish` corrects: an answer where the prompt had opened a
    thought, a closing delimiter without its opening one, a second thought between two answers, a block of code that
    holds a delimiter and never ends.
    """

    def __init__(
        self, tags: Sequence[ThinkTags], *, opened: bool = False, hold: bool = False, direct: bool = False
    ) -> None:
        """`tags`: the delimiters that may occur. `opened`: the prompt ends inside a thought. `hold`: say nothing until
        such a thought is closed, so that an answer without a thought is not taken for one meanwhile. `direct`: take the
        response to such a prompt for an answer without a thought."""
        self._tags, self._opened = tuple(tags), opened and not direct
        worded = all(each in WORDED for each in tags)
        own = tuple(each for each in tags if worded or each not in WORDED)
        """Plain words delimit a thought only if both are there, which a stream cannot wait for."""
        self._settled = False
        self._take(own)
        self._kind: Kind = "thought" if self._opened else "answer"
        self._sure = not (self._opened and hold)
        self._begun = False
        """Whether the text has begun, with an opening delimiter or something else."""
        self._closed = 0
        """The end of the first closing delimiter in the text."""
        self._whole: list[str] = []
        self._length = 0
        self._pending = ""
        self._scan = 0
        """How much of `_pending` has been searched for delimiters."""
        self._line = ""
        """What stands before `_pending` on its line."""
        self._fence = ""
        """The fence of the block of code, after the first closing delimiter, in which this line begins."""
        self._fresh, self._space = True, ""
        """Whether nothing of this part was given out yet, and the spaces held back after it."""
        self._bare: ThinkTags | None = None
        """The tags round the answer."""
        self._out: dict[Kind, list[str]] = {"thought": [], "answer": []}

    @property
    def text(self) -> str:
        """The whole text so far, delimiters included."""
        return "".join(self._whole)

    def push(self, text: str) -> tuple[Piece, ...]:
        """The pieces that are certain enough now and were not before."""
        if not text:
            return ()
        self._whole.append(text)
        self._length += len(text)
        self._pending += text
        return tuple(self._advance())

    def finish(self, *, finished: bool) -> Parted:
        """`finished`: the response ended by itself, not at the token limit.

        Cut off without any delimiter, it is a thought only if the prompt had opened one. The text alone does not tell
        that, so `split_thinking` takes it for one in a record.
        """
        split = split_thinking(self.text, finished=finished or not self._opened, tags=self._tags)
        parts: dict[Kind, str] = {"thought": split.thought, "answer": split.answer}
        sent: dict[Kind, str] = {kind: "".join(pieces) for kind, pieces in self._out.items()}
        if any(not parts[kind].startswith(sent[kind]) for kind in parts):
            rest = self._space + self._pending if self._sure else ""
            return Parted((Piece(self._kind, rest),) if rest.strip() else (), split, True)
        order: tuple[Kind, ...] = ("answer", "thought") if sent["answer"] else ("thought", "answer")
        rests = (Piece(kind, parts[kind][len(sent[kind]) :]) for kind in order)
        return Parted(tuple(piece for piece in rests if piece.text), split, False)

    def _advance(self) -> list[Piece]:
        pieces: list[Piece] = []
        if not self._begun and not self._begin():
            return pieces
        while (found := self._pattern.search(self._pending, self._scan)) is not None:
            if not self._is_followed(found):
                self._give(found.start(), pieces)
                return pieces
            if self._is_mark(found):
                after, self._sure = len(self._pending) - found.end(), True
                self._give(found.start(), pieces)
                self._turn(len(self._pending) - after, closes=found[0] not in self._opens)
            else:
                self._scan = found.end()
        begun = self._beginnings.search(self._pending, self._scan)
        self._scan = begun.start() if begun else len(self._pending)
        self._give(self._scan, pieces)
        return pieces

    def _begin(self) -> bool:
        """Takes an opening delimiter at the beginning; False while there may be one."""
        begins = self._pending.lstrip()
        if any(tag.startswith(begins) and tag != begins for tag in self._opens):
            return False
        self._begun = True
        tag = max((tag for tag in self._opens if begins.startswith(tag)), key=len, default="")
        if tag:
            self._settle()
            self._skip(len(self._pending) - len(begins) + len(tag))
            self._kind, self._sure = "thought", True
        return True

    def _is_followed(self, found: re.Match[str]) -> bool:
        """Whether enough comes after a delimiter to tell if it is quoted."""
        after = self._pending[found.end() :]
        if "`" in self._line[-LINE:] or "`" in self._pending[: found.start()]:
            return re.search(r"\n|`[^`]|.{200}", after) is not None
        return bool(after)

    def _is_mark(self, found: re.Match[str]) -> bool:
        """Whether a delimiter is one and begins the other part."""
        line = self._line[-LINE:]
        line, start = line + self._pending, len(line) + found.start()
        mark = next((each for each in marks_in(line, self._own) if each.start == start), None)
        if mark is None or (not mark.closes and self._kind == "thought"):
            return False
        if not self._closed:
            return mark.closes or not is_mention(line, mark)
        begins = self._length - len(self._pending) - len(self._line)
        line = self._line + self._pending[: found.start()]
        return not self._fence_after(begins, line)

    def _turn(self, length: int, *, closes: bool) -> None:
        """Drops the first `length` characters of `_pending`, a delimiter: the other part begins."""
        self._skip(length)
        self._fresh, self._space, self._bare = True, "", None
        if closes and not self._closed:
            self._closed = self._length - len(self._pending)
        self._settle()
        self._kind = "answer" if closes else "thought"

    def _settle(self) -> None:
        """From the first delimiter on, only those of its family count."""
        if not self._settled:
            self._settled = True
            self._take(tuple(family_of(self.text, self._tags)[0]) or self._own)

    def _take(self, tags: tuple[ThinkTags, ...]) -> None:
        """Looks for these delimiters."""
        self._own, self._opens = tags, frozenset(each.open for each in tags)
        self._pattern, self._beginnings = _patterns(tuple(delimiter for each in tags for delimiter in each))

    def _give(self, count: int, pieces: list[Piece]) -> None:
        """Gives out the first `count` characters of `_pending`, except for what an end of the answer may be."""
        if not self._sure:
            return
        if self._kind == "answer":
            after = len(self._pending) - count
            if self._fresh and not self._strip_tag():
                return
            count = max(0, len(self._pending) - after)
            count -= self._tail(self._pending[:count])
        text = self._space + self._pending[:count]
        self._skip(count)
        if self._fresh:
            text = text.lstrip()
        body = text.rstrip()
        self._space = text[len(body) :]
        if not body:
            return
        if self._fresh and self._kind == "thought" and self._out["thought"]:
            body = f"\n\n{body}"
        self._fresh = False
        self._out[self._kind].append(body)
        pieces.append(Piece(self._kind, body))

    def _strip_tag(self) -> bool:
        """Drops the tag with which a family begins its answer; False while there may be one."""
        begins = self._pending.lstrip()
        if self._bare is None:
            if any(tags.open.startswith(begins) and tags.open != begins for tags in ANSWER_TAGS):
                return False
            self._bare = next((tags for tags in ANSWER_TAGS if begins.startswith(tags.open)), None)
            if self._bare is not None:
                self._skip(len(self._pending) - len(begins) + len(self._bare.open))
        return True

    def _tail(self, text: str) -> int:
        """Length of what may be the end of a turn, which is no part of an answer."""
        end, beginning = _patterns(TURN_ENDS if self._bare is None else (*TURN_ENDS, self._bare.close))
        begun = beginning.search(text)
        text_end = begun.start() if begun else len(text)
        found = re.search(rf"(?:{end.pattern})(?:\s|{end.pattern})*$", text[:text_end])
        return len(text) - (found.start() if found else text_end)

    def _skip(self, count: int) -> None:
        """Drops the first `count` characters of `_pending`."""
        begins = self._length - len(self._pending) - len(self._line)
        *lines, self._line = (self._line + self._pending[:count]).split("\n")
        for line in lines:
            self._fence = self._fence_after(begins, line)
            begins += len(line) + 1
        self._pending, self._scan = self._pending[count:], max(0, self._scan - count)

    def _fence_after(self, begins: int, line: str) -> str:
        """`fence_after` a line that begins at this place of the text."""
        return fence_after(self._fence, line) if self._closed and begins >= self._closed else self._fence


@cache
def _patterns(words: tuple[str, ...]) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """One for `words`, and one for their beginnings at the end of a text."""
    longest_first = [re.escape(word) for word in sorted(set(words), key=len, reverse=True)]
    beginnings = []
    for word in set(words):
        beginning = ""
        for letter in reversed(word[:-1]):
            beginning = re.escape(letter) + (f"(?:{beginning})?" if beginning else "")
        beginnings.append(beginning)
    return re.compile("|".join(longest_first) or NEVER), re.compile(
        rf"(?:{'|'.join(filter(None, beginnings)) or NEVER})\Z"
    )


LINE = 1000
"""Characters before a delimiter on its line in which quotes and code round it are looked for."""
NEVER = "(?!)"
