"""A benchmark that is asked with a prompt or a system message of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mull.benchmarks.base import Benchmark, Grade, Grader, Question
from mull.benchmarks.dataset import OPTIONS, conversation
from mull.benchmarks.graders.letters import apart
from mull.errors import MullError

LARGEST = 1 << 20
"""Bytes of a file with a prompt."""


def asked(whole: Benchmark, *, prompt: str | Path | None = None, system: str | None = None) -> Benchmark:
    """`whole`, asked with `prompt` in place of its user message and `system` in place of its system message.

    `prompt`: a template in which `{question}` stands for the question and `{options}` for the options of multiple
    choice (without it they stay in the question), or a file that holds one. `system`: empty for no system message.

    Raises:
        MullError: the file cannot be read, the template does not name the question, or it asks for options that a
            question does not have.
    """
    if prompt is None and system is None:
        return whole
    return Asked(whole, None if prompt is None else _template(prompt), system)


class Asked:
    """See `asked`."""

    def __init__(self, whole: Benchmark, template: str | None, system: str | None) -> None:
        self.whole, self.template, self.system = whole, template, system
        self.name, self.max_tokens = whole.name, whole.max_tokens
        self.file: str = getattr(whole, "file", "")
        self.grader: Grader | None = getattr(whole, "grader", None)
        if template is not None and OPTIONS in template:
            bare = next((question.id for question in whole.questions() if not apart(question)[1]), None)
            if bare is not None:
                raise MullError(
                    f"the prompt has {OPTIONS}, and question {bare} of {whole.name} has no options",
                    f"leave {OPTIONS} out",
                )

    def questions(self) -> Sequence[Question]:
        return self.whole.questions()

    def prompt(self, question: Question) -> list[dict[str, str]]:
        messages = self.whole.prompt(question)
        own = [message for message in messages if message["role"] == "system"]
        rest = [message for message in messages if message["role"] != "system"]
        if self.template is not None:
            rest = conversation(question, self.template, None)
        if self.system is not None:
            own = [{"role": "system", "content": self.system}] if self.system else []
        return [*own, *rest]

    def grade(self, question: Question, answer: str) -> Grade:
        return self.whole.grade(question, answer)

    def describe(self) -> dict[str, Any]:
        """As that of a data file, so that whoever reads a run asks its questions in the same way."""
        template = {} if self.template is None else {"prompt": self.template}
        return {**self.whole.describe(), **template, **({} if self.system is None else {"system": self.system or None})}


def _template(prompt: str | Path) -> str:
    where = "the prompt"
    if isinstance(prompt, Path):
        where, prompt = f"the prompt in {prompt}", _read(prompt)
    if "{{question}}" in prompt:
        raise MullError(f"{where} has {{{{question}}}}", "write it with one pair of braces: {question}")
    if "{question}" not in prompt:
        raise MullError(f"{where} does not say where the question goes", "write {question} there")
    return prompt


def _read(path: Path) -> str:
    """The text of a file, without the line break that editors put at its end."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise MullError(f"{path} has more than {LARGEST:,} bytes", "give a file with a prompt")
        return data.decode("utf-8-sig").replace("\r\n", "\n").removesuffix("\n")
    except OSError as error:
        raise MullError(f"cannot read {path}: {error.strerror}", "give a file with a prompt") from None
    except UnicodeDecodeError:
        raise MullError(f"{path} is not UTF-8 text", "save it as UTF-8") from None
