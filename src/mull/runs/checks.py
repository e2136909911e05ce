"""What values a run's database must hold. They are checked where they are read, since the file may be damaged or made
by hand: a wrong value is refused, never skipped."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, get_args

from mull.runs.plan import StudyKind
from mull.thinking import ThinkingKind

_TEXT = ("benchmark", "question", "stratum", "setting", "text", "finish", "thinking", "answer", "scores")
_COUNTS = ("index", "tokens")
_COUNTS_OR_NULL = ("prompt_tokens", "thought_tokens")


def _among(names: tuple[str, ...]) -> str:
    return "(" + ", ".join(f"'{name}'" for name in names) + ")"


SOUND = " AND ".join(
    [
        *(f"typeof(\"{name}\") = 'text'" for name in _TEXT),
        *(f'typeof("{name}") = \'integer\' AND "{name}" >= 0' for name in _COUNTS),
        *(f'("{name}" IS NULL OR (typeof("{name}") = \'integer\' AND "{name}" >= 0))' for name in _COUNTS_OR_NULL),
        "typeof(seed) = 'integer'",
        "typeof(correct) = 'integer' AND correct IN (0, 1)",
        "typeof(seconds) IN ('real', 'integer') AND seconds >= 0 AND seconds < 1e300",
        "(lam IS NULL OR (typeof(lam) IN ('real', 'integer') AND abs(lam) < 1e300))",
        "finish IN ('stop', 'length')",
        f"thinking IN {_among(get_args(ThinkingKind))}",
    ]
)
"""An SQL condition that is 1 for a row of `samples` as mull writes it. The types come from the row's header, so that
long texts are not read for it."""

_PLAN = {
    "study?": StudyKind,
    "settings": {"*": dict},
    "benchmark": {"name": str, "grader?": dict, "parts?": {"*": {"name": str, "grader?": dict}}},
    "limits?": {"*": int},
    "k": int,
    "sampling": {"max_tokens": int},
    "engine": str,
}
_SHAPES: Mapping[str, Any] = {
    "plan": _PLAN,
    "provenance": dict,
    "questions": {"*": {"text": str, "gold": str, "stratum": str}},
    "race": ["*", str],
    "pace": [int, float],
    "kernels": ["*", str],
    "routes": {"*": {"*": [float, str, int, int]}},
    "walls": {"*": [float, int]},
    "choices": {"*": [float, int]},
    "signals": {"*": {"*": [str, ["*", float], float, int, int]}},
}


def fits(name: str, value: Any) -> bool:
    """Whether `value` can be what the table `meta` holds under `name`."""
    return _fits(value, _SHAPES[name])


def _fits(value: Any, shape: Any) -> bool:
    """`shape` is a type, or a list or dict of shapes; "*" stands for any number, "?" marks what may be absent."""
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return False
        if "*" in shape:
            return all(_fits(each, shape["*"]) for each in value.values())
        for name, part in shape.items():
            key = name.removesuffix("?")
            if not (_fits(value[key], part) if key in value else name.endswith("?")):
                return False
        return True
    if isinstance(shape, list):
        if not isinstance(value, list):
            return False
        if shape[0] == "*":
            return all(_fits(each, shape[1]) for each in value)
        return len(value) == len(shape) and all(map(_fits, value, shape))
    if shape is StudyKind:
        return value in list(StudyKind)
    if shape is float:
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is shape
