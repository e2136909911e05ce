"""Graders by name."""

from __future__ import annotations

from collections.abc import Callable

from mull.benchmarks.base import Grader
from mull.benchmarks.graders.ifeval_grader import IFEvalGrader
from mull.benchmarks.graders.math_grader import MathGrader
from mull.benchmarks.graders.own_grader import OwnGrader, is_own
from mull.benchmarks.graders.plain_graders import ExactGrader, IntegerGrader, LetterGrader
from mull.errors import MullError, nearest

GRADERS: dict[str, Callable[[], Grader]] = {
    "math": MathGrader,
    "integer": IntegerGrader,
    "letter": LetterGrader,
    "letter-robust": lambda: LetterGrader(robust=True),
    "exact": ExactGrader,
    "ifeval": IFEvalGrader,
}

_OTHERS_SAY = {
    **dict.fromkeys(("mathverify", "latex", "symbolic"), "math"),
    **dict.fromkeys(("int", "number", "numeric", "numerical"), "integer"),
    **dict.fromkeys(("choice", "multiplechoice", "mc", "mcq", "abcd", "gpqa"), "letter"),
    **dict.fromkeys(("exactmatch", "em", "string", "text", "match"), "exact"),
    **dict.fromkeys(("instructionfollowing",), "ifeval"),
}
"""What other tools call them, for hints."""


def make_grader(name: str) -> Grader:
    """The grader called `name`, or of the user's own, as `FILE.py:FUNCTION`.

    Raises:
        MullError: there is none, what it needs is not installed, or the user's file cannot be run.
    """
    if is_own(name):
        return OwnGrader(name)
    if name not in GRADERS:
        raise MullError(f"unknown grader {name!r}", nearest(name, GRADERS, _OTHERS_SAY))
    return GRADERS[name]()
