"""The built-in pair's benchmark: arithmetic problems of three difficulties, on which no model was trained."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from mull.benchmarks.base import NO_SCORES, AnswerForm, Grade, Grader, Question
from mull.errors import MullError
from mull.tiny.problems import STEPS, STRATA, Split, Stratum, stream

MOST = 20_000
"""Most questions. Every split has enough different problems for this many with any seed; for more, `stream` might
search for another problem forever."""

_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")


class Arithmetic:
    """`count` questions of one split, the same for the same seed: half easy, two tenths medium, three tenths hard.

    The "report" split is for published numbers, the "tune" split for choosing recipes and λ.
    """

    name = "tiny"
    max_tokens = 768
    answer_form = AnswerForm("boxed", "The answer is \\boxed{")

    def __init__(
        self,
        count: int = 120,
        *,
        split: Split = "report",
        seed: int = 0,
        stratum: Stratum | None = None,
        grader: Grader | None = None,
    ) -> None:
        """`stratum`: problems of one difficulty alone, as a benchmark of its own. `grader`: in place of `grade`'s."""
        self.grader = grader
        self.name = self.name if stratum is None else f"{self.name}-{stratum}"
        self.stratum = stratum
        if count < 1:
            raise MullError(
                f"a benchmark needs at least one question, got {count}",
                f"ask for a multiple of {len(STRATA) * len(STEPS)}",
            )
        most = MOST if stratum is None else MOST // len(STRATA)
        if count > most:
            raise MullError(
                f"the benchmark {self.name!r} has {most:,} different questions, not {count:,}",
                f"ask for {most} or fewer",
            )
        self.count = count
        self.split: Split = split
        self.seed = seed

    def questions(self) -> Sequence[Question]:
        return self._questions

    def prompt(self, question: Question) -> list[dict[str, str]]:
        return [{"role": "user", "content": question.text}]

    def grade(self, question: Question, answer: str) -> Grade:
        """The last `\\boxed{}` of the answer, compared as a number: "07" and "7" are the same."""
        if self.grader is not None:
            return self.grader.grade(question, answer)
        found = _BOXED.findall(answer)
        if not found:
            return Grade("", False)
        value = found[-1].strip()
        if (
            not value.isdecimal() or len(value) > 20
        ):  # no answer is that long, and Python refuses numbers of 4,300 digits
            return Grade(value, False, {"unparsed": 1.0} if value else NO_SCORES)
        return Grade(str(int(value)), int(value) == int(question.gold))

    def describe(self) -> dict[str, Any]:
        grader = {} if self.grader is None else {"grader": self.grader.describe()}
        return {"name": self.name, "questions": self.count, "split": self.split, "seed": self.seed, **grader}

    @cached_property
    def _questions(self) -> list[Question]:
        every = stream(self.split, self.seed)
        problems = itertools.islice((p for p in every if self.stratum in (None, p.stratum)), self.count)
        return [
            Question(
                id=f"{self.split}-{self.seed}-{i:04d}", text=problem.text, gold=problem.answer, stratum=problem.stratum
            )
            for i, problem in enumerate(problems)
        ]
