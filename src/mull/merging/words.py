"""A merge in words, for plans on screen and for model cards."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from mull.merging.methods import Method
from mull.merging.plan import MergePlan


def method_in_words(method: Method) -> str:
    """ties (density 0.2, trim tensor, normalize yes)."""
    values = ", ".join(f"{name} {_value(value)}" for name, value in asdict(method).items() if value is not None)
    return f"{method.name} ({values})" if values else method.name


def coefficient_in_words(plan: MergePlan) -> tuple[str, str]:
    """The coefficient's sign and its value or rules; empty where the method takes none."""
    sign = {"lambda": "λ", "alpha": "α", None: ""}[plan.method.takes]
    return sign, plan.coefficients.label if sign else ""


def parameters_in_words(kind: type[Method]) -> str:
    """A method's parameters with their defaults: density 0.2, trim tensor …"""
    return ", ".join(f"{field.name} {_value(field.default)}" for field in fields(kind) if field.default is not None)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(_value, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
