"""Grades a response: splits off the thought, then grades the answer after it. Knows no store and no engine.

Also keeps a user's own grader beside the responses that it graded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from mull.benchmarks import Grade, Question
from mull.benchmarks.graders.own_grader import OwnGrader
from mull.errors import MullError
from mull.folders import write_atomically
from mull.thinking import KNOWN, ThinkingKind, ThinkTags, split_thinking


class Grades(Protocol):
    """A benchmark, or a grader."""

    def grade(self, question: Question, answer: str) -> Grade: ...


class Graded(NamedTuple):
    """The kind of thinking of a response, and its grade."""

    kind: ThinkingKind
    grade: Grade


def grade_response(
    grader: Grades, question: Question, text: str, *, finished: bool, tags: Sequence[ThinkTags] = KNOWN
) -> Graded:
    """Grade the answer outside of the thoughts of `text`, whose delimiters may be any of `tags`.

    `finished`: the response ended by itself, not at the token limit. An unclosed thought has no answer and counts as
    wrong. Its score `as_it_stands` (0 or 1) says whether the thought
    contains the right answer.
    """
    split = split_thinking(text, finished=finished, tags=tags)
    grade = grader.grade(question, split.answer)
    if split.kind == "unclosed":
        right_in_thought = grader.grade(question, split.thought).correct
        grade = grade._replace(scores={**grade.scores, "as_it_stands": float(right_in_thought)})
    return Graded(split.kind, grade)


def keep_grader(grader: object, run: Path) -> None:
    """Put a copy of the file of a user's own grader into the folder `run`, as `graders/SHA256/FILE.py`."""
    if not isinstance(grader, OwnGrader):
        return
    place = run / "graders" / grader.digest[:8]
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MullError(f"cannot make the folder {place}: {error.strerror}", "choose another folder") from None
    write_atomically(place / grader.path.name, grader.source)
