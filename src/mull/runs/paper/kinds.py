"""Reads from a plan's record at which λ a study of the interpolation paper was made. Knows no samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def lambda_of(plan: Mapping[str, Any]) -> float | None:
    """The one λ of an ablation, other than 0; None if its settings have several, or a λ that varies by layer."""
    found: set[float | None] = set()
    for setting in plan["settings"].values():
        found |= {setting.get("coefficients", setting).get("default"), *map(_value, rules_of(setting))}
    found -= {0}
    if None in found or len(found) > 1:
        return None
    return found.pop() if found else 0.0


def rules_of(setting: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rules of a setting's coefficients."""
    return setting.get("coefficients", setting).get("rules", [])


def _value(rule: Mapping[str, Any]) -> float | None:
    value = rule.get("lambda")
    return value if isinstance(value, int | float) else None
