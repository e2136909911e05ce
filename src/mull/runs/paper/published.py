"""Which published rows stand beside a run's settings, and what the paper calls benchmarks. Knows no samples."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mull.analysis.tables import PublishedRow, published, published_ablations
from mull.runs.paper.kinds import lambda_of
from mull.runs.plan import StudyKind

SOURCE = "Wu et al. 2025"
PUBLISHED = f"Qwen3-4B, {SOURCE}"
LAYERS = 36
"""Of Qwen3-4B, whose ranges are published."""
_TITLES = {
    "aime24": "AIME’24",
    "aime25": "AIME’25",
    "amc23": "AMC’23",
    "ifeval": "IFEval",
    "gpqa": "GPQA-Diamond",
    "gsm8k": "GSM8K",
    "math500": "MATH-500",
}
_PUBLISHED_AS = {"gpqa": "gpqa_diamond"}


def benchmark_title(benchmark: str) -> str:
    """`AIME’25` of `aime25`; other names as they are."""
    return _TITLES.get(benchmark, benchmark)


def published_sweep(benchmark: str) -> list[PublishedRow]:
    """The published rows of one of mull's benchmarks; none where the paper has none."""
    name = _PUBLISHED_AS.get(benchmark, benchmark)
    return [row for row in published() if row.benchmark == name]


def published_setting(plan: Mapping[str, Any], setting: str) -> PublishedRow | None:
    """The published row that stands beside a setting of an ablation's plan, None where there is none.

    It has the same λ. Ranges of layers count as shares: the first third stands beside the first third, in a study that
    has all of the published ranges (a plan does not say how many layers there are).
    """
    kind, lam = StudyKind(plan["study"]), lambda_of(plan)
    rows = [row for row in published_ablations() if row.study == kind and row.lam == lam]
    if kind != StudyKind.layers:
        return next((row for row in rows if row.method == setting), None)
    count = layer_count(plan)
    published_parts = {_part(row.method, LAYERS, count): row for row in rows}
    if not published_parts.keys() <= {_part(label, count, count) for label in plan["settings"]}:
        return None
    return published_parts.get(_part(setting, count, count))


def published_spread(plan: Mapping[str, Any]) -> PublishedRow | None:
    """The published spread of a decoding study on its benchmark: as Mean@k the largest less the smallest."""
    benchmark, lam = plan["benchmark"]["name"], lambda_of(plan)
    rows = [row for row in published_ablations() if row.study == StudyKind.decoding]
    return next((row for row in rows if row.benchmark == benchmark and row.lam == lam), None)


def layer_count(plan: Mapping[str, Any]) -> int:
    """Layers as far as the ranges of a layer study reach."""
    return max((int(label.rpartition("-")[2]) + 1 for label in plan["settings"] if _range(label)), default=0)


def _range(label: str) -> re.Match[str] | None:
    return re.fullmatch(r"layers (\d+)-(\d+)", label)


def _part(label: str, layers: int, of: int) -> tuple[int, int] | str:
    """A range of so many layers as the nearest one of a model of another depth."""
    found = _range(label)
    if not found or not layers:
        return label
    return round(int(found[1]) / layers * of), round((int(found[2]) + 1) / layers * of)
