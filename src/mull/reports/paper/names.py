"""What the paper calls benchmarks, settings and columns, and which published rows stand beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mull.reports.paper.runs import OWN_INSTRUCT, Run
from mull.study.by_question import Metric
from mull.study.metrics import SettingMetrics
from mull.study.tables import PublishedRow, published, published_ablations
from mull.sweeps.kinds import StudyKind, kind_of, lambda_of

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
_ORDER = (
    *("Instruct", "Instruct, sampled as MI", "Thinking", "TA", "TA-Base", "TIES", "TIES-Base", "DARE", "DARE-Base"),
    *("SLERP", "MI"),
)


def title(benchmark: str) -> str:
    """`AIME’25` of `aime25`; other names as they are."""
    return _TITLES.get(benchmark, benchmark)


def second_metric(benchmark: str) -> Metric:
    """The paper's second accuracy beside Mean@k: Vote@k on GPQA, else Pass@k."""
    return "vote_at_k" if benchmark == "gpqa" else "pass_at_k"


def method_name(setting: str, lam: float | None, own_instruct: bool = False) -> str:
    """The paper's name of a row: Instruct, Thinking, TA-Base, MI-0.4."""
    if setting == OWN_INSTRUCT or lam == 0:
        return "Instruct, sampled as MI" if lam == 0 and own_instruct else "Instruct"
    if lam is not None:
        return "Thinking" if lam == 1 else f"MI-{lam:g}"
    found = re.fullmatch(r"(ta|ties|dare|slerp)(?:[- ](base|[\d.]+))?", setting)
    if not found:
        return setting
    return "-".join(filter(None, [found[1].upper(), (found[2] or "").title()]))


def method_order(name: str) -> tuple[int, float, str]:
    """Sorts rows as the paper does: ends, baselines, interpolations by λ, anything else last."""
    family, _, rest = name.partition("-")
    number = float(rest) if re.fullmatch(r"\d+(\.\d+)?", rest) else 0.0
    key = name if name in _ORDER else family
    return (_ORDER.index(key) if key in _ORDER else len(_ORDER), number, name)


def setting_title(run: Run, setting: str) -> str:
    """A row of an ablation: `[0, 11]` of `layers 0-11`, `w/o FFN` of `without ffn`; Instruct for the first backbone."""
    if found := re.fullmatch(r"layers (\d+)-(\d+)", setting):
        return f"[{found[1]}, {found[2]}]"
    if setting in ("all layers", "all modules"):
        return setting
    if run.kind == StudyKind.backbone:
        return setting[:1].upper() + setting[1:]
    return setting.replace("without ", "w/o ").replace("ffn", "FFN")


def published_sweep(benchmark: str) -> list[PublishedRow]:
    """The published rows of one of mull's benchmarks; none where the paper has none."""
    name = _PUBLISHED_AS.get(benchmark, benchmark)
    return [row for row in published() if row.benchmark == name]


def published_setting(plan: Mapping[str, Any], setting: str) -> PublishedRow | None:
    """The published row that stands beside a setting of an ablation's plan, None where there is none.

    It has the same λ. Ranges of layers count as shares: the first third stands beside the first third, in a study that
    has all of the published ranges (a plan does not say how many layers there are).
    """
    kind, lam = kind_of(plan), lambda_of(plan)
    rows = [row for row in published_ablations() if row.study == kind and row.lam == lam]
    if kind != StudyKind.layers:
        return next((row for row in rows if row.method == setting), None)
    count = layer_count(plan)
    published_parts = {_part(row.method, LAYERS, count): row for row in rows}
    if not published_parts.keys() <= {_part(label, count, count) for label in plan["settings"]}:
        return None
    return published_parts.get(_part(setting, count, count))


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


def published_spread(run: Run) -> PublishedRow | None:
    """The published spread of a decoding study on its benchmark: as Mean@k the largest less the smallest."""
    rows = [row for row in published_ablations() if row.study == StudyKind.decoding]
    return next((row for row in rows if row.benchmark == run.benchmark and row.lam == lambda_of(run.plan)), None)


def ordered(found: Sequence[SettingMetrics], own_instruct: bool) -> dict[str, SettingMetrics]:
    """Row name → metrics, in the paper's order."""
    named = {method_name(m.setting, m.lam, own_instruct): m for m in found}
    return {name: named[name] for name in sorted(named, key=method_order)}
