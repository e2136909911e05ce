"""Benchmarks by name."""

from __future__ import annotations

from pathlib import Path

from mull.benchmarks.arithmetic import Arithmetic
from mull.benchmarks.base import Benchmark, Grade, Grader, Question
from mull.benchmarks.catalog import SPECS
from mull.benchmarks.dataset import named, own
from mull.benchmarks.graders import GRADERS, make_grader
from mull.benchmarks.rows import SUFFIXES, check_suffix
from mull.errors import MullError, nearest
from mull.words import listed

BENCHMARKS = ("tiny", *SPECS)
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

__all__ = ["BENCHMARKS", "GRADERS", "Benchmark", "Grade", "Grader", "Question", "load_benchmark", "make_grader"]


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
    needs one. `seed`: for a benchmark that generates its questions.

    Raises:
        MullError: there is no such benchmark, its data cannot be fetched or read, or its grader is not installed.
    """
    if name in SPECS:
        return named(name, data=data, grader=grader, questions=questions)
    if name == "tiny":
        if data is not None or grader is not None:
            raise MullError("the benchmark 'tiny' makes its questions and grades them", "leave --data and --grader out")
        return Arithmetic(seed=seed) if questions is None else Arithmetic(questions, seed=seed)
    if Path(name).is_file():
        check_suffix(Path(name))
    elif Path(name).suffix.lower() not in SUFFIXES:
        hint = nearest(name, BENCHMARKS, _OTHERS_SAY)
        joined = f"{hint} Or" if hint.endswith("?") else f"{hint}, or"
        raise MullError(f"unknown benchmark {name!r}", f"{joined} a {listed(SUFFIXES, 'or')} file")
    if data is not None:
        raise MullError(f"--benchmark {name} is a file already", "leave --data out")
    if grader is None:
        raise MullError(f"{name} needs a grader", f"give --grader: {', '.join(GRADERS)}")
    return own(Path(name), grader, questions=questions)
