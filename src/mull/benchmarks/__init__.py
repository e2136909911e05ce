"""Benchmarks by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mull.benchmarks.arithmetic import Arithmetic
from mull.benchmarks.base import (
    BOXED_ANSWER,
    FREE_ANSWER,
    LETTER_ANSWER,
    AnswerForm,
    Benchmark,
    Grade,
    Grader,
    Question,
    RefusesGold,
)
from mull.benchmarks.catalog import SPECS
from mull.benchmarks.dataset import named, own
from mull.benchmarks.graders import GRADERS, make_grader
from mull.benchmarks.graders.own_grader import FORM, is_own
from mull.benchmarks.rows import SUFFIXES, check_suffix
from mull.errors import MullError, nearest
from mull.tiny.problems import Stratum
from mull.words import listed

TINY: Mapping[str, Stratum | None] = {"tiny": None, "tiny-easy": "easy", "tiny-medium": "medium", "tiny-hard": "hard"}
"""The built-in pair's benchmark, and its difficulties as benchmarks of their own."""
BENCHMARKS = (*TINY, *SPECS)
_OTHERS_SAY = {
    **dict.fromkeys(("gsm", "gradeschoolmath"), "gsm8k"),
    **dict.fromkeys(("math", "hendrycksmath", "minervamath"), "math500"),
    "aime": ("aime24", "aime25"),
    **dict.fromkeys(("aime2024",), "aime24"),
    **dict.fromkeys(("aime2025",), "aime25"),
    **dict.fromkeys(("amc", "amc2023"), "amc23"),
    **dict.fromkeys(("gpqadiamond", "diamond"), "gpqa"),
    **dict.fromkeys(("instructionfollowing",), "ifeval"),
    **dict.fromkeys(("arithmetic", "builtin", "sums"), "tiny"),
}
"""What other tools call them, for hints."""

__all__ = [
    "BENCHMARKS",
    "BOXED_ANSWER",
    "FREE_ANSWER",
    "GRADERS",
    "LETTER_ANSWER",
    "AnswerForm",
    "Benchmark",
    "Grade",
    "Grader",
    "Question",
    "answer_form",
    "load_benchmark",
    "make_grader",
]


def answer_form(record: Mapping[str, Any]) -> AnswerForm:
    """How answers to the benchmark of this record (`Benchmark.describe`) begin and end."""
    if record.get("name") in TINY:
        return Arithmetic.answer_form
    grader = record.get("grader") or {}
    return _ANSWER_FORMS.get(str(grader.get("name")), FREE_ANSWER)


_ANSWER_FORMS = {
    **dict.fromkeys(("math", "integer", "exact"), BOXED_ANSWER),
    **dict.fromkeys(("letter", "letter-robust"), LETTER_ANSWER),
}


def load_benchmark(
    name: str,
    *,
    questions: int | None = None,
    seed: int = 0,
    data: Path | None = None,
    grader: str | None = None,
) -> Benchmark:
    """The benchmark called `name`, or of the data file `name`, with its first `questions` questions (default: all).

    `data`: read this file instead of the one on the hub. `grader`: replaces the benchmark's own grader; a user's file
    needs one. It may be `FILE.py:FUNCTION`, which is then run. `seed`: for a benchmark that generates its questions.

    Raises:
        MullError: there is no such benchmark, its data cannot be fetched or read, or its grader is not installed.
    """
    if name in SPECS:
        return named(name, data=data, grader=grader, questions=questions)
    if name in TINY:
        if data is not None or (grader is not None and not is_own(grader)):
            raise MullError(
                f"the benchmark {name!r} makes its questions and grades them",
                f"leave --data out, and --grader but for {FORM}",
            )
        judge = None if grader is None else make_grader(grader)
        made = Arithmetic(*([] if questions is None else [questions]), seed=seed, stratum=TINY[name], grader=judge)
        if isinstance(judge, RefusesGold):
            judge.refusal(made.questions()[0])
        return made
    if Path(name).is_file():
        check_suffix(Path(name))
    elif Path(name).suffix.lower() not in SUFFIXES:
        hint = nearest(name, BENCHMARKS, _OTHERS_SAY)
        joined = f"{hint} Or" if hint.endswith("?") else f"{hint}, or"
        raise MullError(f"unknown benchmark {name!r}", f"{joined} a {listed(SUFFIXES, 'or')} file")
    if data is not None:
        raise MullError(f"--benchmark {name} is a file already", "leave --data out")
    if grader is None:
        raise MullError(f"{name} needs a grader", f"give --grader: {', '.join(GRADERS)} or {FORM}")
    return own(Path(name), grader, questions=questions)
