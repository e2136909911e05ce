"""What the paper calls settings and columns, and how it orders them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from mull.analysis.by_question import Metric
from mull.analysis.metrics import SettingMetrics
from mull.reports.paper.runs import OWN_INSTRUCT, Run
from mull.runs.plan import StudyKind

_ORDER = (
    *("Instruct", "Instruct, sampled as MI", "Thinking", "TA", "TA-Base", "TIES", "TIES-Base", "DARE", "DARE-Base"),
    *("SLERP", "MI"),
)


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


def setting_titles(run: Run) -> dict[str, str]:
    """Setting → its row's name; settings that would share one (`base`, `Base`) keep their labels."""
    titles = {setting: setting_title(run, setting) for setting in run.metrics}
    return _distinct(titles)


def ordered(found: Sequence[SettingMetrics], own_instruct: bool) -> dict[str, SettingMetrics]:
    """Row name → metrics, in the paper's order."""
    titles = _distinct({m.setting: method_name(m.setting, m.lam, own_instruct) for m in found})
    named = {titles[m.setting]: m for m in found}
    return {name: named[name] for name in sorted(named, key=method_order)}


def _distinct(titles: Mapping[str, str]) -> dict[str, str]:
    times = Counter(titles.values())
    return {setting: title if times[title] == 1 else setting for setting, title in titles.items()}
