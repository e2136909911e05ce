"""The `math` grader: compares integers itself, everything else by math-verify in a process that can be killed."""

from __future__ import annotations

from mull.benchmarks.base import NO_SCORES, Grade, Question
from mull.benchmarks.graders.boxed import boxed, integer
from mull.benchmarks.graders.forms import as_answer, words
from mull.benchmarks.graders.typography import as_latex
from mull.benchmarks.packages import need, versions
from mull.worker import Unanswered, Worker

_LONGEST = 300
"""Most characters of an answer that is compared as text in other forms than its own."""
PACKAGES = ("math-verify", "latex2sympy2_extended", "sympy")


class MathGrader:
    """Mathematical equality by math-verify (Kydlíček 2025) in its default configuration, gold as `\\boxed{…}`.

    Both sides are rewritten first where math-verify does not read a form, and what it takes for equal must be equal in
    proportion, too: docs/grading.md lists all of it. If all boxes of an answer hold the same integer and the gold is an
    integer, the process is not asked. If all boxes hold the text of the gold, the answer is right whatever math-verify
    says. Any other answer on which math-verify hangs for `seconds` counts as wrong, with the score `ungraded`; one
    that it cannot read has the score `unparsed`.

    Raises:
        MullError: math-verify is not installed.
    """

    name = "math"

    def __init__(self, seconds: float = 30.0) -> None:
        need("math_verify", what="grading mathematics")
        self._worker = Worker("mull.benchmarks.graders.math_worker", seconds)

    def grade(self, question: Question, answer: str) -> Grade:
        boxes = set(boxed(answer))
        if len(boxes) == 1:
            (box,) = boxes
            value, gold = integer(box), integer(question.gold)
            if value is not None and gold is not None:
                return Grade(str(value), value == gold)
        if not answer.strip():
            return Grade("", False)
        gold = question.gold.strip()
        same = {_words(box) for box in boxes} == {_words(gold)}
        try:
            found = self._worker.ask({"gold": question.gold, "answer": answer})
        except Unanswered:
            return Grade(gold if same else (boxed(answer) or [""])[-1], same, {"ungraded": float(not same)})
        text = found["answer"] or (gold if same else "")
        unparsed = text and not same and not found["correct"] and not found["parsed"]
        return Grade(text, found["correct"] or same, {"unparsed": 1.0} if unparsed else NO_SCORES)

    def describe(self) -> dict[str, str]:
        return {"name": self.name, "version": "2", **versions(PACKAGES)}


def _words(text: str) -> str:
    return words(as_answer(as_latex(text))) if len(text) <= _LONGEST else text
