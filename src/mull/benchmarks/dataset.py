"""A benchmark made of a data file, a prompt and a grader."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from mull.benchmarks import rows
from mull.benchmarks.base import Grade, Grader, Question, RefusesGold
from mull.benchmarks.catalog import LETTERS, MATH_LIMIT, PLAIN, PROMPTS, SPECS, ReadRow, Spec, own_row
from mull.benchmarks.cells import BadRow
from mull.benchmarks.graders import make_grader
from mull.benchmarks.graders.letters import apart, letters
from mull.benchmarks.hub import fetched
from mull.errors import MullError
from mull.words import counted

OPTIONS = "{options}"


@dataclass(kw_only=True)
class DataBenchmark:
    """All or the first questions of a file, asked with one prompt template and graded by one grader."""

    name: str
    max_tokens: int
    template: str
    system: str | None
    grader: Grader
    asked: Sequence[Question]
    digest: str
    """SHA-256 of the bytes of the data files."""
    order: str = ""
    private: bool = False
    file: str = ""
    """The user's data file as it was named; empty where the hub's was read."""

    def questions(self) -> Sequence[Question]:
        return self.asked

    def prompt(self, question: Question) -> list[dict[str, str]]:
        return conversation(question, self.template, self.system)

    def grade(self, question: Question, answer: str) -> Grade:
        return self.grader.grade(question, answer)

    def describe(self) -> dict[str, Any]:
        record = {
            "name": self.name,
            "questions": len(self.asked),
            "data": self.digest,
            "prompt": self.template,
            "system": self.system,
            "grader": self.grader.describe(),
        }
        return record | ({"order": self.order} if self.order else {}) | ({"private": True} if self.private else {})


def conversation(question: Question, template: str | None, system: str | None) -> list[dict[str, str]]:
    """The messages that ask a question by a template, in which `{question}` stands for its text (None: the text alone)
    and `{options}` for its options, which are then left out of the text; after a system message if there is one."""
    asked = (template or PLAIN).replace(LETTERS, f"one of {letters(question)}")
    text, options = apart(question) if OPTIONS in asked else (question.text, "")
    parts = {"{question}": text, OPTIONS: options}
    messages = [{"role": "user", "content": re.sub(r"\{question\}|\{options\}", lambda part: parts[part[0]], asked)}]
    return messages if system is None else [{"role": "system", "content": system}, *messages]


def named(
    name: str, *, data: Path | None = None, grader: str | None = None, questions: int | None = None
) -> DataBenchmark:
    """The benchmark `name` of the catalog, from the file `data` or else from the hub.

    Raises:
        MullError: the data cannot be fetched or read, or the grader is not installed.
    """
    spec = SPECS[name]
    judge = make_grader(grader or spec.grader)
    found = rows.read([data]) if data else _from_hub(name, spec)
    return DataBenchmark(
        name=name,
        max_tokens=spec.max_tokens,
        template=spec.prompt,
        system=spec.system,
        grader=judge,
        asked=_questions(found, spec.read, judge, questions, str(data or spec.source.repo)),
        digest=found.digest,
        order=spec.order,
        private=spec.source.private,
        file=str(data or ""),
    )


def own(path: Path, grader: str, *, questions: int | None = None) -> DataBenchmark:
    """A user's file with the columns question and answer, asked with the prompt of `grader` in `PROMPTS`, or as
    it stands.

    Raises:
        MullError: the file cannot be read, or the grader is unknown or not installed.
    """
    judge = make_grader(grader)
    found = rows.read([path])
    read = SPECS["ifeval"].read if grader == "ifeval" else partial(own_row, letters=grader.startswith("letter"))
    return DataBenchmark(
        name=path.stem,
        max_tokens=MATH_LIMIT,
        template=PROMPTS.get(grader, PLAIN),
        system=None,
        grader=judge,
        asked=_questions(found, read, judge, questions, str(path)),
        digest=found.digest,
        file=str(path),
    )


def _from_hub(name: str, spec: Spec) -> rows.Data:
    terms = f"accept the terms of {spec.source.repo} there and `hf auth login`, or " if spec.source.private else ""
    advice = f"{terms}check the network, or give the file with --data FILE"
    with fetched(spec.source, advice=advice) as paths:
        return rows.read(paths)


def _questions(found: rows.Data, read: ReadRow, judge: Grader, count: int | None, where: str) -> list[Question]:
    questions: dict[str, Question] = {}
    for number, row in enumerate(islice(found.rows, count)):
        try:
            question = read(row, number)
        except BadRow as error:
            raise MullError(f"row {number + 1} of {where}: {error}", "mend the row, or name its columns so") from None
        except (ValueError, RecursionError):  # from writing a nested or huge value as text
            raise MullError(f"row {number + 1} of {where} cannot be read", "write plain text and numbers") from None
        if isinstance(judge, RefusesGold) and (why := judge.refusal(question)):
            raise MullError(
                f"row {number + 1} of {where}: {why}: the grader {judge.name!r} would call every response wrong",
                "mend the answer, take another grader, or put all options into a column 'options'",
            )
        if question.id in questions:
            raise MullError(f"row {number + 1} of {where}: the id is there twice", "give every question its own id")
        questions[question.id] = question
    if count is not None and count > len(questions):
        raise MullError(f"{where} has {counted(len(questions), 'question')}, not {count:,}", "ask for fewer")
    return list(questions.values())
