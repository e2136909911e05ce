"""Benchmarks by name."""

from __future__ import annotations

from mull.benchmarks.arithmetic import Arithmetic
from mull.benchmarks.base import Benchmark, Grade, Question
from mull.errors import MullError, nearest

BENCHMARKS = {"tiny": Arithmetic}

__all__ = ["BENCHMARKS", "Benchmark", "Grade", "Question", "load_benchmark"]


def load_benchmark(name: str, *, questions: int | None = None, seed: int = 0) -> Benchmark:
    """The benchmark called `name`, with its first `questions` questions (all by default).

    Raises:
        MullError: there is no such benchmark.
    """
    if name not in BENCHMARKS:
        raise MullError(f"unknown benchmark {name!r}", nearest(name, BENCHMARKS))
    return BENCHMARKS[name](seed=seed) if questions is None else BENCHMARKS[name](questions, seed=seed)
