"""What every benchmark offers: questions, prompts and grades. Knows no engine and no λ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

NO_SCORES: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Question:
    """One item of a benchmark."""

    id: str
    """Unique within the benchmark."""
    text: str
    gold: str
    """The right answer, or other data that the grader needs to check an answer."""
    stratum: str = ""
    """Difficulty class, or empty."""
    benchmark: str = ""
    """Name of its benchmark among several that are asked together; empty where there is one."""


class AnswerForm(NamedTuple):
    """How answers to a benchmark begin and end, for estimators that make a model answer at once."""

    type: Literal["boxed", "letter", "free"]
    opening: str
    """What stands before the answer itself."""


BOXED_ANSWER = AnswerForm("boxed", "**Final Answer**\n\\boxed{")
LETTER_ANSWER = AnswerForm("letter", "ANSWER:")
FREE_ANSWER = AnswerForm("free", "")


class Grade(NamedTuple):
    """What a response answered and whether it is right."""

    answer: str
    """The extracted answer; equivalent answers give equal strings if the grader can tell. Empty if none was found."""
    correct: bool
    scores: Mapping[str, float] = NO_SCORES
    """Further results of the grader by name: 0 or 1, or counts (see `mull.analysis.scores`)."""


class Grader(Protocol):
    """Compares the answer of a response with the gold answer of its question."""

    name: str

    def grade(self, question: Question, answer: str) -> Grade:
        """Grade the text after the thought."""
        ...

    def describe(self) -> dict[str, str]:
        """Name and versions: everything that influences the grades."""
        ...


@runtime_checkable
class RefusesGold(Protocol):
    """A grader that can tell gold answers that no response could ever match."""

    name: str

    def refusal(self, question: Question) -> str | None:
        """Why the gold answer of `question` can never be given, without quoting it; None if it can."""
        ...


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
        """Everything that influences the questions and the grades, for the plan of a run."""
        ...
