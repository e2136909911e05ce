"""mergekit's language for parameters: a number, a gradient, or a list of these with filters on tensor names.

A gradient is a list of numbers at equal distances over the layers of a slice, with straight lines between them;
parameters outside the layers get its first number. Of several filters the first whose text occurs in the tensor's name
decides. A setting of a model precedes one of its slice, and that precedes one of the whole recipe.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mull.errors import MullError, naming, nearest

Scalar = float | bool
KINDS: dict[str, type] = {
    **dict.fromkeys(("weight", "density", "gamma", "epsilon", "t", "lambda", "select_topk", "tol", "max_iter"), float),
    **dict.fromkeys(("normalize", "rescale", "int8_mask", "filter_wise"), bool),
    **dict.fromkeys(("nuslerp_flatten", "nuslerp_row_wise"), bool),
}
"""The parameters of mergekit's methods that mull knows, and what their values are."""


@dataclass(frozen=True)
class Setting:
    """What a recipe says of one parameter in one place: (filter, values), of which the first that fits decides."""

    conditions: tuple[tuple[str, tuple[Scalar, ...]], ...]

    def at(self, name: str, place: float) -> Scalar | None:
        """The value for a tensor at `place` (from 0 to 1) of its slice's layers; None if no filter fits its name."""
        for text, values in self.conditions:
            if text in name:
                return _between(values, place)
        return None


Settings = dict[str, Setting]


def _between(values: tuple[Scalar, ...], place: float) -> Scalar:
    position = place * (len(values) - 1)
    index = int(position)
    if isinstance(values[0], bool):
        return values[index]
    share = position - index
    # Rounded, so that 0.3 is not 0.30000000000000004.
    return round((1 - share) * values[index] + share * values[min(index + 1, len(values) - 1)], 12)


def parse_settings(table: dict[str, Any]) -> Settings:
    """The settings of a `parameters:` block.

    Raises:
        MullError: an unknown parameter, or a value that is none; the message names the parameter.
    """
    for name in table:
        if name not in KINDS:
            raise MullError(
                f"unknown parameter {name!r}", nearest(name, KINDS, {"scale": "lambda", "weights": "weight"})
            )
    found = {}
    for name, value in table.items():
        with naming(f"parameter {name}"):
            found[name] = Setting(tuple(_conditions(value, KINDS[name])))
    return found


def _conditions(value: Any, kind: type) -> Iterable[tuple[str, tuple[Scalar, ...]]]:
    listed = value if isinstance(value, list) and any(isinstance(each, dict) for each in value) else [value]
    for each in listed:
        if not isinstance(each, dict):
            if len(listed) > 1:
                raise MullError(f"{each!r} stands among filters", "write - value: before it")
            yield "", _values(each, kind)
            continue
        for key in each:
            if key not in ("filter", "value"):
                raise MullError(f"unknown key {key!r}", nearest(key, ("filter", "value"), {"pattern": "filter"}))
        if "value" not in each:
            raise MullError("a filter without value", "write - filter: mlp, and value: 0.5 below it")
        text = each.get("filter", "")
        if not isinstance(text, str):
            raise MullError(f"filter must be a text, got {text!r}", "write a part of a tensor's name, as in mlp")
        yield "" if text == "*" else text, _values(each["value"], kind)


def _values(value: Any, kind: type) -> tuple[Scalar, ...]:
    given = value if isinstance(value, list) else [value]
    if not given:
        raise MullError("an empty list", "give numbers")
    return tuple(_scalar(each, kind) for each in given)


def _scalar(value: Any, kind: type) -> Scalar:
    if kind is bool:
        if isinstance(value, bool) or value in (0, 1):
            return bool(value)
        raise MullError(f"it cannot be {value!r}", "it is true or false")
    try:
        # YAML reads 1e-5, which has no point, as a text.
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not abs(number) <= 1e6:
        raise MullError(f"it cannot be {value!r}", "it is a number within ±1,000,000, or a list of numbers")
    return number
