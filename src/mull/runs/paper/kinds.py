"""At which λ one of the interpolation paper's studies was made, from its plan's record. Knows no samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def lambda_of(plan: Mapping[str, Any]) -> float | None:
    """The λ of an ablation, whose settings have it or 0; None where they have several, or one by layer."""
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
