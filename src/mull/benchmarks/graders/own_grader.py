"""A grader of the user's own: `FILE.py:FUNCTION`, a function of a response's answer and the gold answer.

The file is run in a process of its own, and only because the user names it: never because a run does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from mull.benchmarks.base import Grade, Question
from mull.benchmarks.graders.boxed import boxed
from mull.errors import MullError, nearest
from mull.worker import Unanswered, Worker

LARGEST = 1 << 20
"""Bytes of a file with a grader."""
FORM = "FILE.py:FUNCTION"


def is_own(name: str) -> bool:
    """Whether `--grader` names a file, not a grader of mull."""
    return name.rpartition(":")[0].endswith(".py") or name.endswith(".py")


def as_named(record: Mapping[str, str]) -> str:
    """What `--grader` may be given for the grader that `describe` recorded so, where its file is at hand."""
    if "sha256" not in record:
        return record["name"]
    stem, _, function = record["name"].rpartition(".")
    return f"{stem}.py:{function}"


class OwnGrader:
    """Asks a function `(answer, gold) -> bool`, which may also return a `Grade`.

    An empty answer is wrong without asking. Unless the function says what was answered, Vote@k takes the last box, or
    without a box the last line, for the answer.

    Raises:
        MullError: no such file or function, or the file cannot be run.
    """

    def __init__(self, name: str, seconds: float = 30.0) -> None:
        where, _, function = name.rpartition(":")
        if not where.endswith(".py") or not function:
            raise MullError(f"--grader {name} names no function", f"write {FORM}")
        self.path, self.function = Path(where), function
        self.name = f"{self.path.stem}.{function}"
        self.source = _read(self.path)
        self.digest = hashlib.sha256(self.source).hexdigest()
        arguments = (str(self.path.resolve()), function, self.digest)
        self._worker = Worker("mull.benchmarks.graders.own_worker", seconds, arguments)
        self._start()

    def grade(self, question: Question, answer: str) -> Grade:
        """Raises `MullError`, which names the question, where the function fails, hangs or returns something else."""
        if not answer.strip():
            return Grade("", False)
        try:
            self._start()
            found = self._worker.ask({"answer": answer, "gold": question.gold})
        except Unanswered as error:
            raise self._failed(question, str(error)) from None
        if "returned" in found:
            raise self._failed(question, f"it returned {found['returned']}, not True or False")
        candidates = boxed(answer) or [line for line in answer.splitlines() if line.strip()]
        said = candidates[-1].strip() if found["answer"] is None else found["answer"]
        return Grade(said, found["correct"], found["scores"])

    def refusal(self, question: Question) -> None:
        """Try the function with the gold answer as the answer, so that most mistakes in it show before sampling."""
        self.grade(question, question.gold)

    def describe(self) -> dict[str, str]:
        return {"name": self.name, "sha256": self.digest}

    def _start(self) -> None:
        hello = self._worker.start()
        if "functions" in hello:
            hint = nearest(self.function, hello["functions"]) if hello["functions"] else "define it there"
            raise MullError(f"{self.path} has no function {self.function!r}", hint)
        if "failed" in hello:
            raise MullError(f"{self.path} cannot be run: {hello['failed']}", "mend it")

    def _failed(self, question: Question, why: str) -> MullError:
        return MullError(
            f"the grader {self.path}:{self.function} failed on question {question.id!r}: {why}",
            "it must return True or False for any text; what it graded stays on record, but a mended file is another "
            "grader, for a new folder or `mull regrade`",
        )


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            source = file.read(LARGEST + 1)
    except OSError as error:
        raise MullError(f"cannot read the grader {path}: {error.strerror}", f"give {FORM}") from None
    if len(source) > LARGEST:
        raise MullError(f"the grader {path} has more than {LARGEST:,} bytes", "give a smaller file")
    return source
