"""Findings as plain values for JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from mull.analysis.comparable import coverage
from mull.analysis.frontier import non_dominated, points_of
from mull.analysis.metrics import metrics
from mull.analysis.paired import contrasts
from mull.analysis.records import Sample
from mull.analysis.scores import scores_by_setting
from mull.analysis.stages import stages_of_samples
from mull.analysis.summary import plain_words


def to_json(value: Any) -> str:
    """`value` as indented JSON."""
    return json.dumps(plain(value), ensure_ascii=False, indent=2, allow_nan=False)


def plain(value: Any) -> Any:
    """Records as objects by their field names; what is not a finite number is null."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    names = getattr(value, "_fields", None)  # of a NamedTuple
    if names is not None:
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, Sequence):
        return [plain(each) for each in value]
    return str(value)


def summary(samples: Sequence[Sample], k: int | None = None, reference: str | None = None) -> dict[str, Any]:
    """What `print_summary` prints: the metrics of every setting with standard errors, the frontier, further scores;
    of a study the differences from its `reference`, else stages and plain words."""
    found = metrics(samples, k)
    result: dict[str, Any] = {
        "settings": found,
        "coverage": coverage(samples),
        "frontier": [point.setting for point in non_dominated(points_of(found)).points],
        "scores": scores_by_setting(samples),
    }
    if reference is not None:
        return result | {"reference": reference, "differences": contrasts(samples, reference)}
    if sum(m.lam is not None for m in found) > 1:
        stages = stages_of_samples(samples)
        result |= {"stages": stages, "words": plain_words(found, stages, samples)}
    return result
