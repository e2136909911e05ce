"""Which of the interpolation paper's studies a run is, read off its plan's record. Knows no samples."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

PAIR = ["instruct", "thinking"]


class StudyKind(StrEnum):
    """The studies of `mull sweep`, `mull compare` and `mull ablate`; `other` is anything else."""

    sweep = "sweep"
    compare = "compare"
    layers = "layers"
    modules = "modules"
    decoding = "decoding"
    backbone = "backbone"
    other = "other"


def kind_of(plan: Mapping[str, Any]) -> StudyKind:
    """The kind of run that a plan's record (`SweepPlan.record`) describes.

    A decoding study samples each setting its own way; a backbone study puts other checkpoints between the ends; a
    comparison has merge methods; layers and modules have rules of one sort beside one scalar λ.
    """
    settings = list(plan["settings"].values())
    if "models" in plan or all(_is_scalar(setting) for setting in settings):
        return StudyKind.sweep
    if all("sampling" in setting and not rules_of(setting) for setting in settings):
        return StudyKind.decoding
    if any(setting.get("method", "mi") != "mi" for setting in settings):
        return StudyKind.compare
    if any(setting.get("models", PAIR) != PAIR for setting in settings):
        return StudyKind.backbone
    sorts = {_sort(rule) for setting in settings for rule in rules_of(setting)}
    one_rule = all(len(rules_of(setting)) <= 1 for setting in settings)
    return sorts.pop() if len(sorts) == 1 and one_rule else StudyKind.other


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


def _is_scalar(setting: Mapping[str, Any]) -> bool:
    return not {"method", "sampling"} & setting.keys() and not rules_of(setting)


def _value(rule: Mapping[str, Any]) -> float | None:
    value = rule.get("lambda")
    return value if isinstance(value, int | float) else None


def _sort(rule: Mapping[str, Any]) -> StudyKind:
    given = {name for name in ("layers", "modules", "name") if rule.get(name) is not None}
    sort = {"layers": StudyKind.layers, "modules": StudyKind.modules}.get("+".join(sorted(given)), StudyKind.other)
    return sort if _value(rule) is not None else StudyKind.other
