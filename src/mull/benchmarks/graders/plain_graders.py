"""Graders that need no library: for integers, exact strings and letters of multiple choice.

An answer that was found but cannot be read has the score `unparsed`; where none was found, the answer is empty.
"""

from __future__ import annotations

import re
from string import ascii_uppercase

from mull.benchmarks.base import NO_SCORES, Grade, Question
from mull.benchmarks.graders.boxed import boxed, integer
from mull.benchmarks.graders.letters import USUAL, letters, robust_letter, strict_letter
from mull.benchmarks.graders.typography import folded

_NUMBER = re.compile(r"[-−+]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?")


class IntegerGrader:
    """Compares the last box, or without a box the last number of the text, with the gold as integers."""

    name = "integer"

    def grade(self, question: Question, answer: str) -> Grade:
        boxes = boxed(answer) or _NUMBER.findall(answer)
        if not boxes:
            return Grade("", False)
        value, gold = integer(boxes[-1]), integer(question.gold)
        if value is None or gold is None:
            same = boxes[-1] == question.gold.strip()
            return Grade(boxes[-1], same, NO_SCORES if same or value is not None else {"unparsed": 1.0})
        return Grade(str(value), value == gold)

    def refusal(self, question: Question) -> str | None:
        return None if integer(question.gold) is not None else "the answer is no integer"

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
        return Grade(found, bool(found) and found == plain(question.gold))

    def refusal(self, question: Question) -> str | None:
        return None if plain(question.gold) else "the answer is nothing but marks that the grader ignores"

    def describe(self) -> dict[str, str]:
        return {"name": self.name, "version": "1"}


class LetterGrader:
    """Compares the letter of a multiple-choice answer with the gold: A to D, or as many as the question has options.

    Strict, as in Wu et al. 2025 and OpenCompass: the first "ANSWER: X" (upper or lower case), but never the first
    letter of a word. Robust: the last letter that is given as the answer, see `robust_letter`. The scores hold both
    results (`strict`, `robust`) and whether a letter was found (`extracted`, `extracted_robust`).
    """

    def __init__(self, *, robust: bool = False) -> None:
        self.name = "letter-robust" if robust else "letter"
        self.robust = robust

    def grade(self, question: Question, answer: str) -> Grade:
        gold = question.gold.strip().upper()
        last = max(USUAL[-1], letters(question)[-1], gold if len(gold) == 1 and gold in ascii_uppercase else "")
        allowed = ascii_uppercase[: ascii_uppercase.index(last) + 1]
        strict, robust = strict_letter(answer, allowed), robust_letter(answer, allowed)
        scores = {
            "strict": float(strict == gold),
            "robust": float(robust == gold),
            "extracted": float(bool(strict)),
            "extracted_robust": float(bool(robust)),
        }
        letter = robust if self.robust else strict
        return Grade(letter, letter == gold, scores)

    def refusal(self, question: Question) -> str | None:
        gold, asked = question.gold.strip().upper(), letters(question)
        if len(gold) == 1 and gold in asked:
            return None
        return f"the answer is no letter from {asked[0]} to {asked[-1]}, one for each option"

    def describe(self) -> dict[str, str]:
        return {"name": self.name, "version": "2"}


def plain(text: str) -> str:
    """`text` in lower case with single spaces and ASCII for full-width signs; no `$`, `*` and full stop around it."""
    return " ".join(folded(text).lower().split()).strip("$* ").removesuffix(".").strip("$* ")
