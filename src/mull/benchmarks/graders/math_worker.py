"""The process of the `math` grader: math-verify with its default configuration, and a canonical answer.

A request is `{"gold": …, "answer": …}`, its answer `{"correct": …, "answer": …, "parsed": …}`. Both texts are first
written as math-verify reads them (`typography`, `forms`). Started by `mull.worker`.
"""

from __future__ import annotations

import contextlib
import logging
import re
import signal
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from mull import portable
from mull.benchmarks.graders import forms
from mull.benchmarks.graders.boxed import boxed, rewritten, without_long_gaps
from mull.benchmarks.graders.typography import as_latex
from mull.worker import serve

MEMORY = 8 << 30
"""Most bytes of address space, because sympy may expand an answer without limit."""
CANONICAL_SECONDS = 2
LONGEST = 200
"""Most characters of a canonical answer; a longer one is replaced by the extracted text."""

_MARKUP = re.compile(r"\\[A-Za-z(\[]|\$")
_TYPED = re.compile(r"(?<![^\s*])([^\s*$]{0,100}(?:\\(?:sqrt|frac)|\^\{)[^\s*$]{0,100}?)(?=[.,;:!?]*(?:[\s*]|$))")
"""A word of running text that was typed as mathematics, as √2: math-verify looks for LaTeX between dollars only."""


def begin() -> tuple[dict[str, Any], Callable[[dict[str, Any]], dict[str, Any]]]:
    """Import math-verify and limit the memory of the process."""
    import math_verify

    from mull.benchmarks.graders.precision import compare_in_proportion

    compare_in_proportion()
    logging.disable(logging.CRITICAL)
    resource = portable.module("resource")
    if resource is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        if hard == resource.RLIM_INFINITY or hard > MEMORY:
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, hard))

    @lru_cache(maxsize=4096)
    def gold_of(gold: str) -> tuple[list[Any], str]:
        parsed = math_verify.parse(f"\\boxed{{{gold}}}")
        return parsed, canonical(parsed)

    def handle(request: dict[str, Any]) -> dict[str, Any]:
        gold, answer = readable(request["gold"], request["answer"])
        parsed_gold, name = gold_of(gold)
        found = math_verify.parse(answer)
        asked, given = set(forms.bases(gold)), set(forms.bases((boxed(answer) or [answer])[-1]))
        other_base = bool(asked and given) and asked != given
        correct = bool(parsed_gold) and not other_base and math_verify.verify(parsed_gold, found)
        text = name if correct else canonical(found) + (f"_{min(given)}" if other_base else "")
        return {"correct": correct, "answer": text, "parsed": any(not isinstance(each, str) for each in found)}

    return {}, handle


def readable(gold: str, answer: str) -> tuple[str, str]:
    """Both texts as math-verify reads them. Units without `\\text` are dropped where the other side has no letter."""
    gold = forms.as_answer(as_latex(gold))
    typed = not answer.isascii() and not _MARKUP.search(answer)
    answer = rewritten(as_latex(without_long_gaps(answer)), forms.as_answer, forms.anywhere)
    answer = _TYPED.sub(r"$\1$", answer) if typed else answer
    if forms.is_number(gold):
        return gold, rewritten(answer, forms.without_units, str)
    if all(map(forms.is_number, boxed(answer))):
        gold = forms.without_units(gold)
    return gold, answer


def canonical(parsed: list[Any]) -> str:
    """The same string for all forms of an answer that sympy finds to be equal; empty if nothing was parsed."""
    if not parsed:
        return ""
    text = "".join(str(parsed[-1]).split()) if isinstance(parsed[-1], str) else ""
    first = parsed[0]
    if isinstance(first, str) or not _safe_to_evaluate(first):
        return text or "".join(str(first).split())[:LONGEST]
    try:
        with _alarm(CANONICAL_SECONDS):
            found = _simplest(first)
    except Exception:
        return text
    return found if found and len(found) <= LONGEST else text


def _simplest(value: Any) -> str:
    """`value` as text: decimals as fractions, sets sorted, `x = 5` as 5, everything else as simplified by sympy."""
    import sympy

    if isinstance(value, sympy.Eq) and isinstance(value.lhs, sympy.Symbol):
        return _simplest(value.rhs)
    if type(value).__name__ == "FiniteSet":
        parts = sorted({_simplest(part) for part in value.args})
        return parts[0] if len(parts) == 1 else "{" + ", ".join(parts) + "}"
    if isinstance(value, sympy.Tuple):
        return "(" + ", ".join(_simplest(part) for part in value.args) + ")"
    if isinstance(value, sympy.MatrixBase):
        return str(value.applyfunc(lambda part: sympy.simplify(part.doit())).tolist())
    value = sympy.simplify(sympy.nsimplify(value.doit(), rational=True))
    return str(sympy.radsimp(value) if isinstance(value, sympy.Expr) else value)


def _safe_to_evaluate(value: Any) -> bool:
    """Whether evaluating `value` surely ends: it has no huge powers, factorials or sums, which would run forever."""
    import sympy

    if isinstance(value, sympy.MatrixBase):
        return all(map(_safe_to_evaluate, value.flat()))
    if not isinstance(value, sympy.Basic):
        return False
    endless = sympy.Sum | sympy.Product | sympy.Integral | sympy.Limit | sympy.Derivative
    for count, part in enumerate(sympy.preorder_traversal(value)):
        if count > 500 or isinstance(part, endless):
            return False
        if isinstance(part, sympy.Pow) and not _small(part.exp):
            return False
        if isinstance(part, sympy.factorial | sympy.binomial | sympy.gamma) and not all(map(_small, part.args)):
            return False
    return True


def _small(value: Any) -> bool:
    """Whether all numbers in `value` are at most 1,000, and no factorial or power in it can be much larger."""
    import sympy

    growing = value.has(sympy.factorial) or any(not part.exp.is_Rational for part in value.atoms(sympy.Pow))
    return not growing and all(abs(number) <= 1000 for number in value.atoms(sympy.Number))


@contextlib.contextmanager
def _alarm(seconds: int) -> Iterator[None]:
    """Ends the block after some seconds. Without alarms, as on Windows, the parent's limit for the process remains."""
    if not hasattr(signal, "alarm"):
        yield
        return

    def ring(number: int, frame: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


if __name__ == "__main__":
    serve(begin)
