"""What every benchmark offers: questions, prompts and grades. Knows no engine and no λ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol


@dataclass(frozen=True, kw_only=True)
class Question:
    """One item of a benchmark."""

    id: str
    """Unique within the benchmark."""
    text: str
    gold: str
    stratum: str = ""
    """Difficulty class, or empty."""


class Grade(NamedTuple):
    """What a response answered and whether it is right."""

    answer: str
    """The extracted answer; empty where none was found."""
    correct: bool


class Benchmark(Protocol):
    """A set of questions with its prompt and its grader."""

    name: str
    max_tokens: int
    """Default limit of generated tokens per response."""

    def questions(self) -> Sequence[Question]: ...

    def prompt(self, question: Question) -> list[dict[str, str]]:
        """The conversation to answer, as chat messages."""
        ...

    def grade(self, question: Question, answer: str) -> Grade:
        """Grade the text after the thought."""
        ...

    def describe(self) -> dict[str, Any]:
        """Everything that decides the questions and the grades, for the plan of a run."""
        ...
