"""Grades a response as it was generated: the thought is split off first. Knows no store and no engine."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from mull.benchmarks import Grade, Question
from mull.thinking import ThinkingKind, split_thinking


class Grades(Protocol):
    """A benchmark, or a grader."""

    def grade(self, question: Question, answer: str) -> Grade: ...


class Graded(NamedTuple):
    """How a response thought, and its grade."""

    kind: ThinkingKind
    grade: Grade


def grade_response(grader: Grades, question: Question, text: str, *, finished: bool) -> Graded:
    """Grade what follows the thought of `text`; `finished` is whether the response ended by itself.

    An unclosed thought has no answer and counts as wrong. Whether the right answer stands in it all the same is the
    score `as_it_stands` (0 or 1).
    """
    split = split_thinking(text, finished=finished)
    grade = grader.grade(question, split.answer)
    if split.kind == "unclosed":
        inside = grader.grade(question, split.thought).correct
        grade = grade._replace(scores={**grade.scores, "as_it_stands": float(inside)})
    return Graded(split.kind, grade)
