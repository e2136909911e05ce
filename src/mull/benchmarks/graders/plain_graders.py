"""Graders that need no library: for integers, exact strings and letters of multiple choice."""

from __future__ import annotations

import re

from mull.benchmarks.base import Grade, Question
from mull.benchmarks.graders.boxed import boxed, integer

_NUMBER = re.compile(r"[-−+]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?")
_STRICT = re.compile(r"(?i)ANSWER\s*:\s*([A-D])")
_DECOR = r"[\s*_$({\[]*(?:\\(?:boxed|text|textbf|mathbf|mathrm)\s*\{[\s*_$({\[]*)*"
_ROBUST = (
    re.compile(rf"(?i)\banswer\s*[*_]*\s*:{_DECOR}([A-D])(?![a-z0-9])"),
    re.compile(rf"\\boxed\s*\{{{_DECOR}([A-D])(?![A-Za-z0-9])"),
    re.compile(rf"(?i:\b(?:answer|option|choice)\s+is\s*:?\s*(?:option|choice)?){_DECOR}([A-D])(?![A-Za-z0-9'])"),
    re.compile(r"(?m)^[\s*_(]*([A-D])[\s*_).]*$"),
)


class IntegerGrader:
    """Compares the last box, or without a box the last number of the text, with the gold as integers."""

    name = "integer"

    def grade(self, question: Question, answer: str) -> Grade:
        boxes = boxed(answer) or _NUMBER.findall(answer)
        if not boxes:
            return Grade("", False)
        value, gold = integer(boxes[-1]), integer(question.gold)
        if value is None or gold is None:
            return Grade(boxes[-1], boxes[-1] == question.gold.strip())
        return Grade(str(value), value == gold)

    def describe(self) -> dict[str, str]:
        return {"name": self.name, "version": "1"}


class ExactGrader:
    """Compares the last box, or without a box the last line, with the gold; see `plain` for what is ignored."""

    name = "exact"

    def grade(self, question: Question, answer: str) -> Grade:
        lines = [line for line in answer.splitlines() if line.strip()]
        candidates = boxed(answer) or lines
        if not candidates:
            return Grade("", False)
        found = plain(candidates[-1])
        return Grade(found, found == plain(question.gold))

    def describe(self) -> dict[str, str]:
        return {"name": self.name, "version": "1"}


class LetterGrader:
    """Compares the letter of a multiple-choice answer, A to D, with the gold.

    Strict, as in Wu et al. 2025 and OpenCompass: the first "ANSWER: X" (upper or lower case). Robust: the last of
    "Answer: X" with any decoration, else the last `\\boxed{X}`, "answer is X", or line with nothing but a letter.
    The scores hold both results (`strict`, `robust`) and whether a letter was found (`extracted`, `extracted_robust`).
    """

    def __init__(self, *, robust: bool = False) -> None:
        self.name = "letter-robust" if robust else "letter"
        self.robust = robust

    def grade(self, question: Question, answer: str) -> Grade:
        gold = question.gold.strip().upper()
        strict, robust = strict_letter(answer), robust_letter(answer)
        scores = {
            "strict": float(strict == gold),
            "robust": float(robust == gold),
            "extracted": float(bool(strict)),
            "extracted_robust": float(bool(robust)),
        }
        letter = robust if self.robust else strict
        return Grade(letter, letter == gold, scores)

    def describe(self) -> dict[str, str]:
        return {"name": self.name, "version": "1"}


def strict_letter(answer: str) -> str:
    """The letter of the first "ANSWER: X", empty if there is none."""
    match = _STRICT.search(answer)
    return match.group(1).upper() if match else ""


def robust_letter(answer: str) -> str:
    """The last letter given as the answer, in any of the robust forms; empty if there is none."""
    for pattern in _ROBUST:
        found = pattern.findall(answer)
        if found:
            return found[-1].upper()
    return ""


def plain(text: str) -> str:
    """`text` in lower case with single spaces, without surrounding `$`, `*` and a final full stop."""
    return " ".join(text.lower().split()).strip("$* ").removesuffix(".").strip("$* ")
