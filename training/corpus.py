"""The built-in pair's training text: one style of answer for each of Base, Instruct and Thinking.

A document is a list of segments `(text, has_loss)`: prompts and injected mistakes have no loss, so they are not learnt.
Instruct answers after one to three lines, each of several operations. Thinking begins every thought with the same
words, writes one operation per line, and then checks its result hastily, several times. If a check disagrees, it often
believes the check. Base has documents of both styles and few checks. No style depends on the difficulty of the
question.
"""

from __future__ import annotations

import itertools
import math
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
CHECKS = ("Wait, let me check.\n", "Check again.\n", "Hmm, verify.\n")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What the three models are taught. Probabilities sum to 1 within each tuple."""

    base_drills: float = 0.30
    """Share of base documents that are only drills: lines of one to three operations, without a question."""
    base_styles: tuple[float, ...] = (0.35, 0.10, 0.10, 0.20, 0.25)
    """Base: probability of a thought, then of 0 (only the answer), 1, 2 … lines of working."""
    base_checks: tuple[float, ...] = (0.60, 0.30, 0.10)
    """Base thought: probability of 0, 1, 2 … checks."""
    base_hasty: tuple[float, ...] = (0.6, 0.4)
    """Base: probability that a line of a check merges 1, 2, 3 … operations."""
    instruct_lines: tuple[float, ...] = (0.0, 0.6, 0.3, 0.1)
    """Instruct: probability of 0, 1, 2 … lines of working."""
    thinking_checks: tuple[float, ...] = (0.0, 0.05, 0.15, 0.25, 0.25, 0.20, 0.10)
    """Thinking: probability of 0, 1, 2 … checks."""
    hasty: tuple[float, ...] = (0.8, 0.2)
    """Thinking: the same. The results of its checks have no loss, so that it learns to check, but not to check well."""
    trust: float = 0.4
    """Probability that a check which disagrees is believed, whether or not it is right."""
    mistake: float = 0.06
    """Probability that the first pass has an injected mistake (no loss on the wrong value)."""
    check_mistake: float = 0.25
    """The same for a check."""


def document(rng: random.Random, kind: str, recipe: Recipe) -> Segments:
    """One training document of `kind` ("base", "instruct", "thinking") as `(text, has_loss)` segments."""
    if kind == "base" and rng.random() < recipe.base_drills:
        return _drill(rng)
    problem = draw(rng, "train")
    opened = rng.random() < 0.5
    styles = {"base": recipe.base_styles, "instruct": (0.0, *recipe.instruct_lines), "thinking": (1.0,)}[kind]
    style = rng.choices(range(len(styles)), styles)[0]
    if style == 0:
        opened, body = True, _think(problem, rng, kind, recipe)
    else:
        body = _short(problem, style - 1)
    # Base and Thinking learn to write <think>, so it has loss. Instruct only learns to ignore it in the prompt.
    opening: Segments = [(THINK_OPEN, kind != "instruct")] if opened else []
    return [(USER.format(text=problem.text), False), *opening, *body, (END, True)]


def _answer(value: str) -> Segments:
    return [(f"The answer is \\boxed{{{value}}}.", True)]


def _short(problem: Problem, lines: int) -> Segments:
    """`lines` lines of working with about equally many operations each, then the answer."""
    bounds = [math.ceil(i * len(problem.ops) / lines) for i in range(lines + 1)] if lines else []
    working = [(_line(problem.states, problem.ops, i, j) + "\n", True) for i, j in itertools.pairwise(bounds)]
    return [*working, *_answer(problem.answer)]


def _line(states: list[int], ops: tuple[tuple[str, int], ...], i: int, j: int) -> str:
    merged = "".join(f"{op}{digit}" for op, digit in ops[i:j])
    return f"{states[i]:02d}{merged}={states[j]:02d}"


def _pass(
    problem: Problem, rng: random.Random, merge: tuple[float, ...], mistaken: bool, *, learnt: bool = True
) -> tuple[Segments, int]:
    """All operations, 1, 2, … per line with the weights `merge`, and the final value. If `mistaken`, one result is
    wrong and has no loss, and the later lines continue from it. Without `learnt` no result has loss."""
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
        segments.append((f"{result:02d}", learnt and n != wrong_at))
        segments.append(("\n", True))
        value = result
    return segments, value


def _think(problem: Problem, rng: random.Random, kind: str, recipe: Recipe) -> Segments:
    """A thought: a careful pass, then hasty checks. A check that disagrees is believed with probability `trust`."""
    base = kind == "base"
    checks, hasty = (recipe.base_checks, recipe.base_hasty) if base else (recipe.thinking_checks, recipe.hasty)
    segments, result = _pass(problem, rng, (1.0,), rng.random() < recipe.mistake)
    for _ in range(rng.choices(range(len(checks)), checks)[0]):
        segments.append((rng.choice(CHECKS), True))
        again, value = _pass(problem, rng, hasty, rng.random() < recipe.check_mistake, learnt=base)
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
