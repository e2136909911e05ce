"""Finds the published rows to compare a run's settings with, and the paper's names of benchmarks. Knows no samples."""

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
"""Number of layers of Qwen3-4B, for which ranges of layers are published."""
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
    """The title of a benchmark: `AIME’25` for `aime25`; unknown names are returned unchanged."""
    return _TITLES.get(benchmark, benchmark)


def published_sweep(benchmark: str) -> list[PublishedRow]:
    """The published rows of one of mull's benchmarks, empty if the paper has none."""
    name = _PUBLISHED_AS.get(benchmark, benchmark)
    return [row for row in published() if row.benchmark == name]


def published_setting(plan: Mapping[str, Any], setting: str) -> PublishedRow | None:
    """The published row to compare a setting of an ablation with, None if there is none.

    It has the same benchmark and λ. Ranges of layers are compared as shares of the model: the first third with the
    first third. Only for a study that has all published ranges, because a plan does not say how many layers there are.
    """
    kind, benchmark, lam = StudyKind(plan["study"]), plan["benchmark"]["name"], lambda_of(plan)
    rows = [row for row in published_ablations() if (row.study, row.benchmark, row.lam) == (kind, benchmark, lam)]
    if kind != StudyKind.layers:
        return next((row for row in rows if row.method == setting), None)
    count = layer_count(plan)
    published_parts = {_part(row.method, LAYERS, count): row for row in rows}
    if not published_parts.keys() <= {_part(label, count, count) for label in plan["settings"]}:
        return None
    return published_parts.get(_part(setting, count, count))


def published_spread(plan: Mapping[str, Any]) -> PublishedRow | None:
    """The published spread of a decoding study on its benchmark: `mean_at_k` is the largest Mean@k − the smallest."""
    benchmark, lam = plan["benchmark"]["name"], lambda_of(plan)
    rows = [row for row in published_ablations() if row.study == StudyKind.decoding]
    return next((row for row in rows if row.benchmark == benchmark and row.lam == lam), None)


def layer_count(plan: Mapping[str, Any]) -> int:
    """The number of layers up to the end of the last range of a layer study."""
    return max((int(label.rpartition("-")[2]) + 1 for label in plan["settings"] if _range(label)), default=0)


def _range(label: str) -> re.Match[str] | None:
    return re.fullmatch(r"layers (\d+)-(\d+)", label)


def _part(label: str, layers: int, other_layers: int) -> tuple[int, int] | str:
    """A range in a model of `layers` layers as the nearest range in one of `other_layers`."""
    found = _range(label)
    if not found or not layers:
        return label
    return round(int(found[1]) / layers * other_layers), round((int(found[2]) + 1) / layers * other_layers)
