"""Finds `\\boxed{…}` in an answer, and integers as people write them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

LONGEST_INTEGER = 1000
"""Most characters of an integer. No right answer is longer, and Python refuses to read more than 4,300 digits."""

_OPEN = re.compile(r"\\(?:boxed|fbox)\s*\{")
_BRACE = re.compile(r"\\(?!f?box(?:ed)?\s*\{).|[{}]", re.DOTALL)
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


def without_long_gaps(text: str) -> str:
    """`text` with at most 20 white characters in a row, so that searches in it take no quadratic time."""
    return re.sub(r"\s{21,}", lambda gap: gap.group()[:20], text)


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
    """Start and end of the content of every outermost box that is closed; escaped braces do not count."""
    begins = {match.end() for match in _OPEN.finditer(text)}
    opened: list[int] = []
    closed: list[tuple[int, int]] = []
    for match in _BRACE.finditer(text) if begins else ():
        if match.group() == "{":
            opened.append(match.end())
        elif match.group() == "}" and opened and (start := opened.pop()) in begins:
            closed.append((start, match.start()))
    last = -1
    for start, end in sorted(closed):
        if start > last:
            yield start, end
            last = end
