"""The three stages along λ: whether and where Think #R rises once from about 0 to about 1.

Stage 1 ends where the rise begins, stage 3 begins where it ends (Wu et al. 2025, arXiv 2510.10977, section 4). Both
boundaries are found in two ways: by a rule on the λ grid, which reproduces the published ones, and by the fit of
`mull.analysis.transition`. If there is no such rise, the result says why.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mull.analysis.metrics import bootstrap
from mull.analysis.records import Sample
from mull.analysis.tables import PublishedRow
from mull.analysis.transition import FEWEST, Transition, best_curve, curves, fit_transition, observations
from mull.errors import MullError

__all__ = ["Stages", "Transition", "fit_transition", "grid_rule", "stages_of_samples", "stages_of_table"]

LOW, HIGH = 0.05, 0.99
"""Think #R of the lower plateau at most, of the upper plateau at least, for the grid rule."""
BACK = 0.5
"""A Think #R above this before the rise, or below it after the rise, means that there is more than one rise."""
LARGEST_RESIDUAL = 0.15
"""A fit is rejected if it differs from an observed ratio by more than this."""
ROUNDING = 1e-9

_OTHER_METHODS = re.compile(
    r"^(ta|task[ _-]?arithmetic|ties|dare|slerp|nuslerp|karcher|della|breadcrumbs|model[ _-]?stock|sce)\b", re.I
)
_INTERPOLATIONS = re.compile(r"^(mi|(linear |model )?interpolation|.*instruct.*|.*thinking.*)?[-_ (]*[\d.]*\)?$", re.I)


@dataclass(frozen=True, kw_only=True)
class Stages:
    """Where stage 2 lies along λ, or why there is none. All positions are values of λ."""

    found: bool
    """Whether the grid rule or the fit finds one rise from a low to a high Think #R."""
    reason: str
    """A sentence: what was found, or what is missing."""
    grid: tuple[float, float] | None
    """[start, end] of stage 2 by the grid rule."""
    fit: Transition | None
    """None if no fit is possible, or the fitted curve is not one complete rise inside the grid."""
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """95 % bootstrap intervals over questions of "midpoint", "crossing_5", "crossing_95" and "crossing_99"; empty for
    a table, and if the grid does not identify the width."""

    @property
    def boundaries(self) -> tuple[float, float] | None:
        """[start, end] of stage 2: the fit's 5 and 95 % crossings; else the grid points around the rise."""
        if self.fit is not None:
            return (self.fit.crossing_5, self.fit.crossing_95) if self.fit.identified else self.fit.bracket
        return self.grid


def grid_rule(lams: Sequence[float], think_ratio: Sequence[float]) -> tuple[float, float] | None:
    """Stage 2 on the grid: from the last λ with Think #R ≤ 5 % before the rise to the first with Think #R ≥ 99 %.

    `think_ratio` holds fractions 0–1, NaN where unknown; the λ may be in any order. None if Think #R never reaches
    99 %, is nowhere ≤ 5 % before that, or rises more than once (above 50 % before the rise, or below 50 % after it).
    Published for Qwen3-4B: [0.4, 0.6] (Wu et al. 2025, arXiv 2510.10977).
    """
    lam, ratio, _ = observations(lams, think_ratio)
    return _grid(lam, ratio)[0]


def stages_of_samples(samples: Sequence[Sample], resamples: int = 200, seed: int = 0) -> Stages:
    """The stages of the samples, with bootstrap intervals over questions.

    Of several benchmarks each weighs the same at every λ, and questions are drawn within each. Samples without λ are
    left out. Raises `MullError` if none has a λ.
    """
    samples = [sample for sample in samples if sample.lam is not None]
    lam = np.array([sample.lam for sample in samples], dtype=float)
    if not samples:
        raise MullError("no sample has a λ", "stages need samples of interpolated weights")
    lams, column = np.unique(lam, return_inverse=True)
    questions: dict[tuple[str, str], int] = {}
    row = np.array([questions.setdefault((s.benchmark, s.question), len(questions)) for s in samples])
    total_QL = np.zeros((len(questions), lams.size))
    closed_QL = np.zeros_like(total_QL)
    np.add.at(total_QL, (row, column), 1.0)
    np.add.at(closed_QL, (row, column), [sample.thinking == "closed" for sample in samples])
    totals = total_QL.sum(axis=0)
    names = [benchmark for benchmark, _ in questions]
    groups = [np.array([name == own for own in names]) for name in dict.fromkeys(names)]
    for group_Q in groups if len(groups) > 1 else ():
        # Each benchmark counts as many responses as the others at this λ, and all together as many as there are.
        factor_L = totals / (len(groups) * np.maximum(total_QL[group_Q].sum(axis=0), 1))
        total_QL[group_Q] *= factor_L
        closed_QL[group_Q] *= factor_L
    stages = _stages(*observations(lams, closed_QL.sum(axis=0), totals), totals)
    if stages.fit is None or not stages.fit.identified or len(questions) < 2:
        return stages
    drawn_RQ = np.zeros((resamples, len(questions)))
    for number, group_Q in enumerate(groups):
        drawn_RQ[:, group_Q] = bootstrap(int(group_Q.sum()), resamples, seed + number)
    intervals = _intervals(lams, drawn_RQ @ closed_QL, drawn_RQ @ total_QL)
    return Stages(found=True, reason=stages.reason, grid=stages.grid, fit=stages.fit, intervals=intervals)


def stages_of_table(rows: Sequence[PublishedRow]) -> Stages:
    """The stages of one benchmark's (or stratum's) rows of a published table, each λ of equal weight.

    Rows without λ or Think #R, and those of other merging methods, are left out. Raises `MullError` for rows of
    several benchmarks, strata or models, and if one λ has rows with different Think #R.
    """
    rows = [row for row in rows if row.lam is not None and not _OTHER_METHODS.match(row.method)]
    kinds = sorted({" of ".join(filter(None, (row.stratum, row.benchmark, row.model))) for row in rows})
    if len(kinds) > 1:
        raise MullError(
            f"stages are those of one benchmark, stratum and model, got {', '.join(kinds)}", "give them one by one"
        )
    rows = [row for row in rows if not math.isnan(row.think_ratio)]
    if not rows:
        return Stages(found=False, reason="no row has both a λ and a Think #R", grid=None, fit=None)
    seen: dict[float, float] = {}
    for row in _plain_interpolations(rows):
        assert row.lam is not None
        if abs(seen.setdefault(row.lam, row.think_ratio) - row.think_ratio) > ROUNDING:
            raise MullError(
                f"λ = {row.lam:g} stands twice in {kinds[0] or 'the table'} with different Think #R: "
                f"{_percent(seen[row.lam])} and {_percent(row.think_ratio)}",
                "keep one row per λ",
            )
    lam, ratio, weight = observations(list(seen), list(seen.values()))
    return _stages(lam, ratio, weight, None)


def _plain_interpolations(rows: list[PublishedRow]) -> list[PublishedRow]:
    """All rows; if a λ repeats (ablations in the same table), only rows whose method is plain interpolation."""
    if len({row.lam for row in rows}) == len(rows):
        return rows
    return [row for row in rows if _INTERPOLATIONS.match(row.method)] or rows


def _stages(lam: np.ndarray, ratio: np.ndarray, weight: np.ndarray, totals: np.ndarray | None) -> Stages:
    grid, grid_reason = _grid(lam, ratio)
    fit, fit_reason = _fit(lam, ratio, weight, totals)
    if grid is None and fit is None:
        reason = grid_reason if grid_reason == fit_reason else f"{grid_reason}; {fit_reason}"
        return Stages(found=False, reason=reason, grid=None, fit=None)
    if grid is not None:
        reason = grid_reason + (f"; {fit_reason}" if fit_reason else "")
    else:
        reason = f"{fit_reason or 'the fit finds one whole rise'}, but the grid rule finds none: {grid_reason}"
    return Stages(found=True, reason=reason, grid=grid, fit=fit)


def _grid(lam: np.ndarray, ratio: np.ndarray) -> tuple[tuple[float, float] | None, str]:
    if lam.size < 2:
        return None, f"a rise needs at least two λ with a Think #R, got {lam.size}"
    high = np.flatnonzero(ratio >= HIGH - ROUNDING)
    if high.size == 0:
        top = int(ratio.argmax())
        return None, f"Think #R never reaches 99 % (highest {_percent(ratio[top])} at λ = {lam[top]:g})"
    end = int(high[0])
    low = np.flatnonzero(ratio[:end] <= LOW + ROUNDING)
    if low.size == 0:
        if end == 0:
            return None, f"Think #R is already {_percent(ratio[0])} at the lowest λ, {lam[0]:g}"
        least = int(ratio[:end].argmin())
        return None, (
            f"Think #R is nowhere ≤ 5 % before it reaches 99 % at λ = {lam[end]:g} "
            f"(lowest {_percent(ratio[least])} at λ = {lam[least]:g})"
        )
    start = int(low[-1])
    before, after = int(ratio[: start + 1].argmax()), end + int(ratio[end:].argmin())
    if ratio[before] > BACK:
        return None, (
            f"Think #R does not rise once: it is {_percent(ratio[before])} at λ = {lam[before]:g} "
            f"and {_percent(ratio[start])} at λ = {lam[start]:g}"
        )
    if ratio[after] < BACK:
        return None, (
            f"Think #R does not stay up: it is {_percent(ratio[end])} at λ = {lam[end]:g} "
            f"and {_percent(ratio[after])} at λ = {lam[after]:g}"
        )
    reason = (
        f"Think #R rises from {_percent(ratio[start])} at λ = {lam[start]:g} to {_percent(ratio[end])} "
        f"at λ = {lam[end]:g}"
    )
    if ratio[after] < HIGH - LOW:
        reason += f" (with a dip to {_percent(ratio[after])} at λ = {lam[after]:g})"
    return (float(lam[start]), float(lam[end])), reason


def _fit(
    lam: np.ndarray, ratio: np.ndarray, weight: np.ndarray, totals: np.ndarray | None
) -> tuple[Transition | None, str]:
    """The fit if it is one complete rise inside the grid, else None; and a remark on it, which may be empty."""
    if lam.size < FEWEST:
        return None, f"no fit: it needs at least {FEWEST} λ with a Think #R, got {lam.size}"
    fit = fit_transition(lam, ratio * weight, weight)
    noise = 0.0 if totals is None else 2 * math.sqrt(0.25 / float(weight.min()))
    if ratio.max() - ratio.min() < BACK:
        return None, f"no fit: Think #R stays between {_percent(ratio.min())} and {_percent(ratio.max())}"
    if fit.largest_residual > LARGEST_RESIDUAL + noise:
        return None, f"no fit: one rise misses a Think #R by {100 * fit.largest_residual:.0f} points"
    if fit.low_lapse > 2 * LOW:
        return None, f"no fit: Think #R rises from {_percent(fit.low_lapse)}, not from below 10 %"
    if fit.high_lapse > 2 * LOW:
        return None, f"no fit: Think #R rises to {_percent(1 - fit.high_lapse)} only, not to above 90 %"
    if not fit.identified:
        a, b = fit.bracket
        return fit, (
            f"the width of the rise is not identified, since a step between λ = {a:g} and {b:g} explains every "
            f"Think #R: it is at most {fit.width_at_most:.2g}"
        )
    if fit.crossing_5 < lam[0] - ROUNDING:
        return None, f"no fit: the rise begins below the lowest λ, {lam[0]:g}"
    if fit.crossing_95 > lam[-1] + ROUNDING:
        return None, f"no fit: the rise ends above the highest λ, {lam[-1]:g}"
    return fit, ""


def _intervals(lams: np.ndarray, closed_RL: np.ndarray, total_RL: np.ndarray) -> dict[str, tuple[float, float]]:
    lam, ratio, weight = observations(lams, closed_RL.sum(axis=0), total_RL.sum(axis=0))
    start_R4 = np.tile(best_curve(lam, ratio, weight), (len(total_RL), 1))
    fits_R4, _ = curves(lams, closed_RL / np.maximum(total_RL, 1), total_RL, start_R4)
    found_RC = fits_R4[:, :1] + np.array(list(_OFFSETS.values())) * np.exp(fits_R4[:, 1:2])
    limits_2C = np.quantile(found_RC, [0.025, 0.975], axis=0)
    return {name: (float(limits_2C[0, i]), float(limits_2C[1, i])) for i, name in enumerate(_OFFSETS)}


_OFFSETS = {"midpoint": 0.0, "crossing_5": -math.log(19), "crossing_95": math.log(19), "crossing_99": math.log(99)}


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
