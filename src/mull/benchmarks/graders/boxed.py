"""Finds `\\boxed{…}` in an answer, and integers as people write them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

LONGEST_INTEGER = 1000
"""Most characters of an integer. No right answer is longer, and Python refuses to read more than 4,300 digits."""

_OPEN = re.compile(r"\\(?:boxed|fbox)\s*\{")
_GROUP = re.compile(r"\{,\}|,\\!|\\,|\\ |\\!|,(?=\d{3})")
_INTEGER = re.compile(r"[+-]?\d+(?:\.0+)?")


def boxed(text: str) -> list[str]:
    """The contents of all boxes in `text`, in order. Boxes inside a box and boxes that are not closed are left out."""
    return [text[start:end].strip() for start, end in _spans(text)]


def rewritten(text: str, inside: Callable[[str], str], outside: Callable[[str], str]) -> str:
    """`text` with the content of every box passed through `inside`, and all between the boxes through `outside`."""
    parts, last = [], 0
    for start, end in _spans(text):
        parts += [outside(text[last:start]), inside(text[start:end])]
        last = end
    return "".join([*parts, outside(text[last:])])


def integer(text: str) -> int | None:
    """The integer that is written in `text` as 70, 070, +70, 70.0, $70$, 1,000, 1{,}000 or 1\\,000; else None."""
    plain = text.strip().strip("$").strip().rstrip(".").replace("−", "-")
    if _GROUP.search(plain):
        groups = [group.strip() for group in _GROUP.split(plain)]
        if not re.fullmatch(r"[+-]?\d{1,3}", groups[0]) or any(not re.fullmatch(r"\d{3}", g) for g in groups[1:]):
            return None
        plain = "".join(groups)
    if len(plain) > LONGEST_INTEGER or not _INTEGER.fullmatch(plain):
        return None
    return int(plain.partition(".")[0])


def _spans(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    while match := _OPEN.search(text, start):
        end = _closing(text, match.end())
        if end is not None:
            yield match.end(), end
        start = match.end() if end is None else end + 1


def _closing(text: str, start: int) -> int | None:
    """Index of the brace that closes the one opened just before `start`, or None; escaped braces do not count."""
    depth = 1
    for match in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, start):
        depth += {"{": 1, "}": -1}.get(match.group(), 0)
        if depth == 0:
            return match.start()
    return None
