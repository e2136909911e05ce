"""Arithmetic problems for the built-in pair: endless, seeded streams in three disjoint splits.

The split of a problem is decided by a hash of its content (not of its wording), so that no question of an evaluation
was trained on, for any seed. A problem is harder the more of its operations change the value (+0, −0 and ×1 do not).
The number of operations has the same distribution for all difficulties, so that thoughts about easy and hard problems
are equally long. Knows no model, prompt or benchmark.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "tune", "report"]
Family = Literal["counter", "sum"]
Stratum = Literal["easy", "medium", "hard"]

STEPS = (4, 5, 6, 7)
"""Numbers of operations, the same in every stratum."""
STRATA: tuple[Stratum, ...] = ("easy", "easy", "hard", "easy", "medium", "easy", "hard", "easy", "medium", "hard")
"""The strata of ten questions in a row: half are easy, two medium, three hard."""
IDLE = (("+", 0), ("-", 0), ("*", 1))
"""The operations that change nothing."""
ACTIVE = {"easy": 1, "medium": 2}
"""How many operations change the value in an easy and in a medium problem; in a hard one all do."""

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
    """A start value and a chain of operations; `states[i]` is the value after the first `i` of them."""

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
        """The content without its wording, which decides the split."""
        return f"{self.family} {self.start:02d} " + " ".join(f"{op}{digit}" for op, digit in self.ops)

    @property
    def split(self) -> Split:
        bucket = zlib.crc32(self.key.encode()) % 20
        return "tune" if bucket == 0 else "report" if bucket == 1 else "train"

    @property
    def stratum(self) -> Stratum:
        """Easy: at most one operation changes the value. Medium: two. Hard: more."""
        active = sum(op not in IDLE for op in self.ops)
        return "easy" if active < 2 else "medium" if active == 2 else "hard"


def draw(
    rng: random.Random,
    split: Split,
    steps: int | None = None,
    family: Family | None = None,
    stratum: Stratum | None = None,
) -> Problem:
    """One problem of `split`; `steps` (4–7), `family` and `stratum` are drawn if they are None.

    Hard problems are counters, with two to four multiplications.
    """
    if stratum is None:
        stratum = rng.choice(STRATA)
    if family is None:
        family = "sum" if stratum != "hard" and rng.random() < 0.25 else "counter"
    if steps is None:
        steps = rng.choice(STEPS)
    while True:
        problem = _draw_any(rng, steps, family, stratum)
        if problem.split == split and problem.stratum == stratum:
            return problem


def stream(split: Split, seed: int) -> Iterator[Problem]:
    """Endless different problems of `split`. In every 40, each stratum has each number of operations equally often."""
    rng = random.Random(f"{split}/{seed}")
    seen: set[str] = set()
    i = 0
    while True:
        stratum, steps = STRATA[i % len(STRATA)], STEPS[(i + i // len(STRATA)) % len(STEPS)]
        problem = draw(rng, split, steps, None, stratum)
        if (
            problem.key in seen and problem.family == "sum"
        ):  # there are few easy sums: a counter replaces a repeated one
            problem = draw(rng, split, steps, "counter", stratum)
        if problem.key not in seen:
            seen.add(problem.key)
            i += 1
            yield problem


def _draw_any(rng: random.Random, steps: int, family: Family, stratum: Stratum) -> Problem:
    active = set(rng.sample(range(steps), ACTIVE.get(stratum, steps)))
    if family == "sum":
        digits = [rng.randint(1, 9), *(rng.randint(2, 9) if i in active else 0 for i in range(steps))]
        text = rng.choice(_SUM_WORDINGS).format(digits=" ".join(map(str, digits)))
        return Problem(family, digits[0], tuple(("+", digit) for digit in digits[1:]), text)
    start = rng.randrange(100)
    products = {"easy": 0, "medium": 1, "hard": 4}[stratum]
    products = set(rng.sample(sorted(active), rng.randint(products // 2, products)))
    ops = tuple(
        rng.choice(IDLE) if i not in active else ("*" if i in products else rng.choice("+-"), rng.randint(2, 9))
        for i in range(steps)
    )
    wording = rng.choice(_COUNTER_WORDINGS)
    text = wording.format(start=f"{start:02d}", ops=" ".join(f"{op}{digit}" for op, digit in ops))
    return Problem(family, start, ops, text)
