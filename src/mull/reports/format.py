"""Numbers as text, rounded to what their standard error supports. Knows no page and no terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mull.analysis.metrics import Estimate, SettingMetrics
from mull.analysis.paired import PairedDifference
from mull.analysis.stages import Stages

NONE = "–"
"""What stands for a value that is not defined."""


def percent(estimate: Estimate) -> str:
    """`71.0 ± 1.2` for a share 0–1, in percent; the error is one standard error."""
    return plus_minus(Estimate(100 * estimate.value, 100 * estimate.error), most=1)


def count(estimate: Estimate) -> str:
    """`12,681 ± 310` for tokens."""
    return plus_minus(estimate, most=1)


def plus_minus(estimate: Estimate, most: int = 2) -> str:
    """Value ± one standard error, the error with two significant digits, at most `most` decimals."""
    value, error = estimate
    if math.isnan(value):
        return NONE
    if math.isnan(error):
        return f"{value:,.{most if abs(value) < 1000 else 0}f} ± ?"
    places = most if error == 0 else min(most, max(0, 1 - math.floor(math.log10(error))))
    places = 0 if error == 0 and abs(value) >= 1000 else places
    return f"{value:,.{places}f} ± {error:,.{places}f}"


def setting_name(m: SettingMetrics) -> str:
    """`λ 0.45`, or the label of weights that are no scalar interpolation."""
    return m.setting if m.lam is None else f"λ {m.lam:g}"


def per_question(found: Sequence[SettingMetrics]) -> int | None:
    """Samples per question if all settings have the same whole number, else None."""
    each = {m.samples / m.questions for m in found}
    return int(each.pop()) if len(each) == 1 and next(iter(each)).is_integer() else None


def common_k(found: Sequence[SettingMetrics]) -> int | None:
    """The k of Pass@k if all settings share it, else None."""
    each = {m.k for m in found}
    return each.pop() if len(each) == 1 else None


def at(name: str, k: int | None) -> str:
    """`Mean@8`, or `Mean@k` where k differs between settings."""
    return f"{name}@{'k' if k is None else k}"


def verdict(difference: PairedDifference, more: str, less: str) -> str:
    """`more` or `less` than the other, or a tie: the 95 % interval holds 0."""
    if math.isnan(difference.low):
        return "unknown"
    if difference.tie:
        return "tie"
    return more if difference.difference > 0 else less


def stage_bounds(stages: Stages | None) -> tuple[float, float] | None:
    """[start, end] of stage 2 as figures shade it: by the grid rule, else by the fit; None where none was found."""
    return (stages.grid or stages.boundaries) if stages and stages.found else None


def fixed(value: float, decimals: int) -> str:
    """With thousands separators and a true minus."""
    return f"{value:,.{decimals}f}".replace("-", "−")


def signed(value: float, decimals: int) -> str:
    """`+1.2`, `−1.2`, and `0.0` for what rounds to it."""
    text = f"{value:+,.{decimals}f}"
    return text.replace("-", "−") if any(digit in text for digit in "123456789") else text.lstrip("+-")


def stages_text(stages: Stages) -> str:
    """Stage 2 by the grid rule and by the fit, one line each, or the reason why there is none."""
    if not stages.found:
        return f"stages: no transition found: {stages.reason}"
    lines = []
    if stages.grid:
        lines.append(f"stage 2 by the grid rule: λ {stages.grid[0]:g} to {stages.grid[1]:g}")
    fit = stages.fit
    if fit and fit.identified:
        sure = stages.intervals.get("midpoint")
        interval = f" (95 % interval {sure[0]:.3f} to {sure[1]:.3f})" if sure else ""
        bounds = f"λ {fit.crossing_5:.3f} to {fit.crossing_95:.3f}"
        lines.append(f"stage 2 by the fit: {bounds}, midpoint {fit.midpoint:.3f}{interval}")
    elif fit:
        lines.append(f"stage 2 by the fit: within λ {fit.bracket[0]:g} to {fit.bracket[1]:g}")
    return "\n".join(lines)
