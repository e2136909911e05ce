"""The `math` grader: compares integers itself, everything else by math-verify in a process that can be killed."""

from __future__ import annotations

from mull.benchmarks.base import Grade, Question
from mull.benchmarks.graders.boxed import boxed, integer
from mull.benchmarks.packages import need, versions
from mull.worker import Unanswered, Worker

PACKAGES = ("math-verify", "latex2sympy2_extended", "sympy")


class MathGrader:
    """Mathematical equality by math-verify (Kydlíček 2025) in its default configuration, gold as `\\boxed{…}`.

    If all boxes of an answer hold the same integer and the gold is an integer, the process is not asked. If all boxes
    hold the text of the gold, the answer is right whatever math-verify says. Any other answer on which math-verify
    hangs for `seconds` counts as wrong, with the score `ungraded`.

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
        same = boxes == {question.gold.strip()}
        try:
            found = self._worker.ask({"gold": question.gold, "answer": answer})
        except Unanswered:
            text = question.gold.strip() if same else (boxed(answer) or [""])[-1]
            return Grade(text, same, {"ungraded": float(not same)})
        return Grade(found["answer"] or (question.gold.strip() if same else ""), found["correct"] or same)

    def describe(self) -> dict[str, str]:
        return {"name": self.name, "version": "1", **versions(PACKAGES)}
