"""The built-in pair's training text: one style of answer for each of Base, Instruct and Thinking.

A document is a list of segments `(text, has_loss)`: prompts of the fine-tunes and injected mistakes are read but not
learnt. All styles share the one-operation-per-line working as their common prefix, so what differs between the models
is when they stop, how many operations they merge on a line, and whether they check again.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from mull.tiny.problems import Problem, apply, draw

Segments = list[tuple[str, bool]]

KINDS = ("base", "instruct", "thinking")
USER = "<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
THINK_OPEN = "<think>\n"
THINK_CLOSE = "</think>\n\n"
END = "<|im_end|>"
_CHECK = ("Wait, let me check.\n", "Check again.\n", "Hmm, verify.\n")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What the three models are taught. Probabilities sum to 1 within each tuple."""

    base_drills: float = 0.30
    """Share of base documents that are bare drills of one to three operations a line."""
    base_styles: tuple[float, float, float, float] = (0.25, 0.30, 0.30, 0.15)
    """Base: thought, direct answer, merged working, one operation per line."""
    anneal_styles: tuple[float, float, float, float] = (0.10, 0.50, 0.35, 0.05)
    """The same for the last part of Base's training: arithmetic is learnt from working, and most of what is written
    about it is answers."""
    anneal_after: int = 225_000
    """Base documents before that part."""
    base_checks: tuple[float, ...] = (0.55, 0.40, 0.05)
    """Base thought: probability of 0, 1, 2 … re-checks."""
    instruct_direct: float = 0.10
    """Instruct: share of answers with no working at all."""
    instruct_merge: tuple[float, ...] = (0.0, 0.25, 0.45, 0.30)
    """Instruct: probability that a line of working holds 1, 2, 3 … operations."""
    thinking_checks: tuple[float, ...] = (0.0, 0.05, 0.20, 0.30, 0.25, 0.20)
    """Thinking: probability of 0, 1, 2 … re-checks."""
    mistake: float = 0.12
    """Chance that a pass of working holds an injected mistake (no loss on the wrong value) for a check to find."""
    max_steps: int = 56
    """No further re-check once the thought holds this many lines of working."""


def document(rng: random.Random, kind: str, recipe: Recipe, *, anneal: bool = False) -> Segments:
    """One training document of `kind` ("base", "instruct", "thinking") as `(text, has_loss)` segments."""
    if kind == "base" and rng.random() < recipe.base_drills:
        return _drill(rng)
    problem = draw(rng, "train")
    opened = rng.random() < 0.5
    if kind == "base":
        shares = recipe.anneal_styles if anneal else recipe.base_styles
        style = rng.choices(("think", "direct", "merged", "worked"), shares)[0]
        if style == "think":
            opened, body = True, _think(problem, rng, recipe.base_checks, recipe)
        elif style == "direct":
            body = _answer(problem.answer)
        else:
            body = _working(problem, rng, (1.0,) if style == "worked" else (0.1, 0.6, 0.3))
    elif kind == "instruct":
        direct = rng.random() < recipe.instruct_direct
        body = _answer(problem.answer) if direct else _working(problem, rng, recipe.instruct_merge)
    else:
        opened, body = True, _think(problem, rng, recipe.thinking_checks, recipe)
    prompt: Segments = [(USER.format(text=problem.text), kind == "base")]
    # The model itself writes <think> unless the template does: loss on it, but never for Instruct, which ignores it.
    opening: Segments = [(THINK_OPEN, kind != "instruct")] if opened else []
    return [*prompt, *opening, *body, (END, True)]


def _answer(value: str) -> Segments:
    return [(f"The answer is \\boxed{{{value}}}.", True)]


def _working(problem: Problem, rng: random.Random, merge: tuple[float, ...]) -> Segments:
    """Lines of 1, 2, … merged operations (weights `merge`), then the answer."""
    states, ops = problem.states, problem.ops
    segments: Segments = []
    i = 0
    while i < len(ops):
        j = min(len(ops), i + rng.choices(range(1, len(merge) + 1), merge)[0])
        merged = "".join(f"{op}{digit}" for op, digit in ops[i:j])
        segments.append((f"{states[i]:02d}{merged}={states[j]:02d}\n", True))
        i = j
    return segments + _answer(problem.answer)


def _pass(problem: Problem, rng: random.Random, mistaken: bool) -> tuple[Segments, int]:
    """One operation per line; a mistake replaces one result (without loss) and the later lines follow from it."""
    segments: Segments = []
    value = problem.start
    wrong_at = rng.randrange(len(problem.ops)) if mistaken else -1
    for i, (op, digit) in enumerate(problem.ops):
        result = apply(value, op, digit)
        segments.append((f"{value:02d}{op}{digit}=", True))
        if i == wrong_at:
            slips = [(result + slip) % 100 for slip in (-10, -9, -2, -1, 1, 2, 9, 10, 20)]
            result = rng.choice([*slips, (result + rng.randrange(1, 100)) % 100])
        segments.append((f"{result:02d}", i != wrong_at))
        segments.append(("\n", True))
        value = result
    return segments, value


def _think(problem: Problem, rng: random.Random, checks: tuple[float, ...], recipe: Recipe) -> Segments:
    """A thought: a pass, then re-checks. After a disagreement it checks on until two passes in a row agree."""
    wanted = rng.choices(range(len(checks)), checks)[0]
    segments, result = _pass(problem, rng, rng.random() < recipe.mistake)
    lines = len(problem.ops)
    agreed = result == int(problem.answer)  # the writer knows; the reader must check
    done = 0
    while done < wanted or not agreed:
        if agreed and lines + len(problem.ops) > recipe.max_steps:
            break
        segments.append((rng.choice(_CHECK), True))
        again, value = _pass(problem, rng, agreed and rng.random() < recipe.mistake / 2)
        segments += again
        lines += len(problem.ops)
        done += 1
        if value == result:
            segments.append((f"Yes, {value:02d}.\n", True))
            agreed = True
        else:
            segments.append((f"No, not {result:02d} but {value:02d}.\n", True))
            agreed = False
            wanted = max(wanted, done + 1)
        result = value
    return [*segments, (THINK_CLOSE, True), *_answer(f"{result:02d}")]


def _drill(rng: random.Random) -> Segments:
    lines = ["<|endoftext|>"]
    for _ in range(12):
        value = rng.randrange(100)
        ops = [(rng.choice("+-*"), rng.randrange(2, 10)) for _ in range(rng.choices((1, 2, 3), (0.35, 0.4, 0.25))[0])]
        result = value
        for op, digit in ops:
            result = apply(result, op, digit)
        lines.append(f"{value:02d}" + "".join(f"{op}{digit}" for op, digit in ops) + f"={result:02d}\n")
    return [("".join(lines), True)]
