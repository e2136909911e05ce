"""The built-in pair's training text: one style of answer for each of Base, Instruct and Thinking.

A document is a list of segments `(text, has_loss)`: prompts and injected mistakes are read but not learnt. Instruct
answers at once, at most after one or two lines that merge many operations. Thinking opens every thought with the same
words, works one operation a line, and then checks itself hastily, several times, whatever the question; when a check
disagrees, it often believes the check. Nothing in any style depends on how hard the question is.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass

from mull.tiny.problems import IDLE, Problem, apply, draw

Segments = list[tuple[str, bool]]

KINDS = ("base", "instruct", "thinking")
USER = "<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
THINK_OPEN = "<think>\n"
THINK_CLOSE = "</think>\n\n"
END = "<|im_end|>"
OPENING = "Okay, let me think.\n"
_CHECK = ("Wait, let me check.\n", "Check again.\n", "Hmm, verify.\n")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What the three models are taught. Probabilities sum to 1 within each tuple."""

    base_drills: float = 0.30
    """Share of base documents that are bare drills of one to three operations a line."""
    base_styles: tuple[float, float, float, float] = (0.35, 0.30, 0.20, 0.15)
    """Base: thought, direct answer, all operations on one line, on two lines."""
    base_checks: tuple[float, ...] = (0.60, 0.30, 0.10)
    """Base thought: probability of 0, 1, 2 … checks."""
    instruct_styles: tuple[float, float, float] = (0.50, 0.50, 0.0)
    """Instruct: direct answer, all operations on one line, on two lines."""
    thinking_checks: tuple[float, ...] = (0.0, 0.05, 0.15, 0.25, 0.25, 0.20, 0.10)
    """Thinking: probability of 0, 1, 2 … checks."""
    hasty: tuple[float, ...] = (0.6, 0.4)
    """Probability that a line of a check merges 1, 2, 3 … operations."""
    mistake: float = 0.06
    """Chance that the first pass holds an injected mistake (no loss on the wrong value)."""
    check_mistake: float = 0.25
    """The same for a check."""
    trust: float = 0.4
    """Chance that a check which disagrees is believed; the writer does not know which of the two is right."""


def document(rng: random.Random, kind: str, recipe: Recipe) -> Segments:
    """One training document of `kind` ("base", "instruct", "thinking") as `(text, has_loss)` segments."""
    if kind == "base" and rng.random() < recipe.base_drills:
        return _drill(rng)
    problem = draw(rng, "train")
    opened = rng.random() < 0.5
    if kind == "thinking":
        style = "think"
    elif kind == "instruct":
        style = rng.choices(("direct", "one", "two"), recipe.instruct_styles)[0]
    else:
        style = rng.choices(("think", "direct", "one", "two"), recipe.base_styles)[0]
    if style == "think":
        opened = True
        body = _think(problem, rng, recipe.thinking_checks if kind == "thinking" else recipe.base_checks, recipe)
    else:
        body = _short(problem, {"direct": 0, "one": 1, "two": 2}[style])
    # The model itself writes <think> unless the template does: loss on it, but never for Instruct, which ignores it.
    opening: Segments = [(THINK_OPEN, kind != "instruct")] if opened else []
    return [(USER.format(text=problem.text), False), *opening, *body, (END, True)]


def _answer(value: str) -> Segments:
    return [(f"The answer is \\boxed{{{value}}}.", True)]


def _short(problem: Problem, lines: int) -> Segments:
    """The operations merged onto 0, 1 or 2 lines of working, then the answer."""
    count = len(problem.ops)
    bounds = {0: [], 1: [0, count], 2: [0, (count + 1) // 2, count]}[lines]
    working = [(_line(problem.states, problem.ops, i, j) + "\n", True) for i, j in itertools.pairwise(bounds)]
    return [*working, *_answer(problem.answer)]


def _line(states: list[int], ops: tuple[tuple[str, int], ...], i: int, j: int) -> str:
    merged = "".join(f"{op}{digit}" for op, digit in ops[i:j])
    return f"{states[i]:02d}{merged}={states[j]:02d}"


def _pass(problem: Problem, rng: random.Random, merge: tuple[float, ...], mistaken: bool) -> tuple[Segments, int]:
    """All operations on lines of 1, 2, … (weights `merge`); a mistake replaces one result (without loss) and the later
    lines follow from it."""
    bounds = [0]
    while bounds[-1] < len(problem.ops):
        bounds.append(min(len(problem.ops), bounds[-1] + rng.choices(range(1, len(merge) + 1), merge)[0]))
    wrong_at = rng.randrange(len(bounds) - 1) if mistaken else -1
    segments: Segments = []
    value = problem.start
    for n, (i, j) in enumerate(itertools.pairwise(bounds)):
        result = value
        for op, digit in problem.ops[i:j]:
            result = apply(result, op, digit)
        merged = "".join(f"{op}{digit}" for op, digit in problem.ops[i:j])
        segments.append((f"{value:02d}{merged}=", True))
        if n == wrong_at:
            slips = [(result + slip) % 100 for slip in (-10, -9, -2, -1, 1, 2, 9, 10, 20)]
            result = rng.choice([*slips, (result + rng.randrange(1, 100)) % 100])
        segments.append((f"{result:02d}", n != wrong_at))
        segments.append(("\n", True))
        value = result
    return segments, value


def _think(problem: Problem, rng: random.Random, checks: tuple[float, ...], recipe: Recipe) -> Segments:
    """A thought: a careful pass, then hasty checks; each that disagrees is believed or not."""
    segments, result = _pass(problem, rng, (1.0,), rng.random() < recipe.mistake)
    for _ in range(rng.choices(range(len(checks)), checks)[0]):
        segments.append((rng.choice(_CHECK), True))
        again, value = _pass(problem, rng, recipe.hasty, rng.random() < recipe.check_mistake)
        segments += again
        if value == result:
            verdict = f"Yes, {result:02d}.\n"
        elif rng.random() < recipe.trust:
            verdict, result = f"Oh, it is {value:02d}.\n", value
        else:
            verdict = f"No, still {result:02d}.\n"
        segments.append((verdict, True))
    return [(OPENING, True), *segments, (THINK_CLOSE, True), *_answer(f"{result:02d}")]


def _drill(rng: random.Random) -> Segments:
    lines = ["<|endoftext|>"]
    for _ in range(12):
        states = [rng.randrange(100)]
        ops = []
        for _ in range(rng.choices((1, 2, 3), (0.40, 0.40, 0.20))[0]):
            ops.append(rng.choice(IDLE) if rng.random() < 0.15 else (rng.choice("+-*"), rng.randrange(2, 10)))
            states.append(apply(states[-1], *ops[-1]))
        lines.append(_line(states, tuple(ops), 0, len(ops)) + "\n")
    return [("".join(lines), True)]
