"""Several benchmarks as one, for a run that asks the questions of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from mull.benchmarks import BENCHMARKS, load_benchmark
from mull.benchmarks.asked import asked
from mull.benchmarks.base import Benchmark, Grade, Question
from mull.errors import MullError, nearest

AVERAGE = "average"
"""What tables call the mean over benchmarks, so that no benchmark of several may be called so."""

Value = TypeVar("Value")


class Several:
    """The questions of all `parts`, each asked and graded by its own benchmark.

    The id of a question is that of its benchmark behind the benchmark's name, as in `gsm8k/gsm8k-0001`: two files may
    call their questions alike.
    """

    def __init__(self, parts: Sequence[Benchmark]) -> None:
        """The names of the parts must differ."""
        self.parts = {part.name: part for part in parts}
        if AVERAGE in self.parts:
            raise MullError(f"a benchmark is called {AVERAGE!r}, as the mean over all is", "rename its file")
        self.name = ", ".join(self.parts)
        self.max_tokens = max(part.max_tokens for part in parts)
        self.file = ", ".join(filter(None, (str(getattr(part, "file", "")) for part in parts)))

    def questions(self) -> Sequence[Question]:
        return self._questions

    @cached_property
    def _own(self) -> dict[str, Question]:
        return {f"{name}/{question.id}": question for name, part in self.parts.items() for question in part.questions()}

    @cached_property
    def _questions(self) -> list[Question]:
        own = ((name, question) for name, part in self.parts.items() for question in part.questions())
        return [replace(question, id=f"{name}/{question.id}", benchmark=name) for name, question in own]

    def prompt(self, question: Question) -> list[dict[str, str]]:
        return self.parts[question.benchmark].prompt(self._own[question.id])

    def grade(self, question: Question, answer: str) -> Grade:
        return self.parts[question.benchmark].grade(self._own[question.id], answer)

    def own_id(self, key: str) -> str:
        """The id of a question in its own benchmark."""
        return self._own[key].id

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "parts": {name: part.describe() for name, part in self.parts.items()}}


def parts_of(benchmark: Benchmark) -> list[Benchmark]:
    """The benchmarks that are asked together, one for most."""
    return list(benchmark.parts.values()) if isinstance(benchmark, Several) else [benchmark]


def names_in(text: str) -> list[str]:
    """The names of `gsm8k,math500`; a file may have a comma in its path. Raises `MullError` for an empty name."""
    names = [text] if Path(text).is_file() else [name.strip() for name in text.split(",")]
    if len(names) > 1 and "" in names:
        raise MullError(f"{text!r} is no list of benchmarks", "name each once, as in gsm8k,math500")
    return names


def load_benchmarks(
    names: Sequence[str | Benchmark],
    *,
    questions: int | Mapping[str, int] | None = None,
    seed: int = 0,
    data: Path | Mapping[str, Path] | None = None,
    grader: str | Mapping[str, str] | None = None,
    prompt: str | Path | None = None,
    system: str | None = None,
) -> Benchmark:
    """The benchmark of the one name, or several as one. Each argument is as `load_benchmark` and `asked` have it, or a
    mapping from the names of benchmarks. A benchmark that is made already stays as it is but for prompt and system.

    Raises:
        MullError: as these two, for no name, and for one that is there twice.
    """
    if not names:
        raise MullError("no benchmark is named", "name one or several, as in gsm8k,math500")
    called = [_called(name) for name in names]
    twice = next((name for name in called if called.count(name) > 1), None)
    if twice is not None:
        raise MullError(f"two benchmarks are called {twice!r}", "name each once; a file is called by its name")
    if len(names) > 1 and isinstance(data, Path):
        raise MullError("one data file for several benchmarks", f"say whose it is, as in {called[0]}={data}")
    loaded = [
        load_benchmark(
            name,
            questions=_own("questions", questions, own, called),
            seed=seed,
            data=_own("data", data, own, called),
            grader=_own("grader", grader, own, called),
        )
        if isinstance(name, str)
        else name
        for name, own in zip(names, called, strict=True)
    ]
    each = [asked(benchmark, prompt=prompt, system=system) for benchmark in loaded]
    return each[0] if len(each) == 1 else Several(each)


def token_limits(benchmark: Benchmark, given: int | Mapping[str, int] | None) -> tuple[int, dict[str, int]]:
    """The most tokens of a response, and by benchmark where their limits differ: those `given`, else their own."""
    parts = parts_of(benchmark)
    names = [part.name for part in parts]
    limits = {part.name: _own("max-tokens", given, part.name, names) or part.max_tokens for part in parts}
    return max(limits.values()), limits if len(set(limits.values())) > 1 else {}


def check_names(what: str, given: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raise `MullError` where `given` names a benchmark that is not among `names`."""
    for name in given:
        if name not in names:
            raise MullError(f"{what} names {name!r}, which is no benchmark of this run", nearest(name, names))


def _called(name: str | Benchmark) -> str:
    if not isinstance(name, str):
        return name.name
    return name if name in BENCHMARKS else Path(name).stem


def _own(what: str, given: Value | Mapping[str, Value] | None, name: str, names: Sequence[str]) -> Value | None:
    """The value for the benchmark `name`."""
    if isinstance(given, Mapping):
        check_names(what, given, names)
        return given.get(name)
    return given
