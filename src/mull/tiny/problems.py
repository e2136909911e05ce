"""Arithmetic problems for the built-in pair: an endless, seeded supply in three disjoint splits.

A problem belongs to exactly one split, decided by a hash of its content (not of its wording), so that what is asked
at evaluation was never trained on, whatever the seed. This file knows nothing of models, prompts or benchmarks.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "tune", "report"]
Family = Literal["counter", "sum"]

STEPS = (2, 3, 4, 5, 6, 7, 8)
STRATA = {"easy": (2, 3), "medium": (4, 5), "hard": (6, 7, 8)}

_COUNTER_WORDINGS = (
    "A two-digit counter shows {start}. Press {ops}. What does it show?",
    "Start at {start}, then {ops}. Keep the last two digits.",
    "Let x = {start}. Apply {ops} mod 100. Find x.",
    "Take {start} and do {ops}. Give the last two digits.",
)
_SUM_WORDINGS = (
    "Add up {digits}.",
    "What is the sum of {digits}?",
    "Find the total of {digits}.",
)


def apply(value: int, op: str, digit: int) -> int:
    """`value op digit` on a two-digit counter: +, − and × modulo 100."""
    if op == "+":
        return (value + digit) % 100
    return (value - digit) % 100 if op == "-" else (value * digit) % 100


@dataclass(frozen=True)
class Problem:
    """A start value and a chain of operations; `states[i]` is the counter after `i` of them."""

    family: Family
    start: int
    ops: tuple[tuple[str, int], ...]
    text: str

    @property
    def states(self) -> list[int]:
        states = [self.start]
        for op, digit in self.ops:
            states.append(apply(states[-1], op, digit))
        return states

    @property
    def answer(self) -> str:
        """The final state as two digits."""
        return f"{self.states[-1]:02d}"

    @property
    def key(self) -> str:
        """The content without its wording: what the split is decided by."""
        return f"{self.family} {self.start:02d} " + " ".join(f"{op}{digit}" for op, digit in self.ops)

    @property
    def split(self) -> Split:
        bucket = zlib.crc32(self.key.encode()) % 20
        return "tune" if bucket == 0 else "report" if bucket == 1 else "train"

    @property
    def stratum(self) -> str:
        return next(name for name, steps in STRATA.items() if len(self.ops) in steps)


def draw(rng: random.Random, split: Split, steps: int | None = None, family: Family | None = None) -> Problem:
    """One problem of `split`, with `steps` operations (2–8; drawn when None)."""
    if family is None:
        family = "counter" if rng.random() < 0.75 else "sum"
    if steps is None:
        steps = rng.choice(STEPS)
    while True:
        problem = _draw_any(rng, steps, family)
        if problem.split == split:
            return problem


def stream(split: Split, seed: int) -> Iterator[Problem]:
    """Endless distinct problems of `split`, cycling through the step counts; every fourth is a sum."""
    rng = random.Random(f"{split}/{seed}")
    seen: set[str] = set()
    i = 0
    while True:
        steps = STEPS[i % len(STEPS)]
        family: Family = "sum" if (i // len(STEPS)) % 4 == 3 else "counter"
        problem = draw(rng, split, steps, family)
        if problem.key in seen and family == "sum":  # short sums are few: ask a counter instead of repeating one
            problem = draw(rng, split, steps, "counter")
        if problem.key not in seen:
            seen.add(problem.key)
            i += 1
            yield problem


def _draw_any(rng: random.Random, steps: int, family: Family) -> Problem:
    if family == "counter":
        start = rng.randrange(100)
        ops = tuple((rng.choice("+-*"), rng.randrange(2, 10)) for _ in range(steps))
        wording = rng.choice(_COUNTER_WORDINGS)
        text = wording.format(start=f"{start:02d}", ops=" ".join(f"{op}{digit}" for op, digit in ops))
        return Problem(family, start, ops, text)
    digits = [rng.randrange(1, 10) for _ in range(steps + 1)]
    text = rng.choice(_SUM_WORDINGS).format(digits=" ".join(map(str, digits)))
    return Problem(family, digits[0], tuple(("+", digit) for digit in digits[1:]), text)
