"""The rise of Think #R over λ as one fitted curve: a binomial logistic with lapse rates.

Works on λ and shares of responses; knows no benchmark and no sample. `mull.analysis.stages` decides whether the fitted
rise is that of the three stages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from mull.errors import MullError

FEWEST = 4
"""Number of different λ needed for a fit, because the curve has four parameters."""
MAX_LAPSE = 0.25
SHARP_RESIDUAL = 0.02
"""If a step function is this close to every ratio, the width of the rise is unknown."""


@dataclass(frozen=True, kw_only=True)
class Transition:
    """Think #R(λ) = low_lapse + (1 − low_lapse − high_lapse)·σ((λ − midpoint)/s).

    The crossings are the λ where σ equals 5, 95 and 99 %; they may lie outside the grid. If at most one λ of the grid
    lies inside the rise, its width is not identified: then `width` and the crossings are NaN, `midpoint` is
    interpolated linearly, and only `bracket` is known.
    """

    midpoint: float
    width: float
    """crossing_95 − crossing_5 = 2·ln 19·s, in λ."""
    low_lapse: float
    """Think #R left of the rise, 0–1."""
    high_lapse: float
    """1 − Think #R right of the rise, 0–1."""
    crossing_5: float
    crossing_95: float
    crossing_99: float
    largest_residual: float
    """Largest |observed − fitted| Think #R over the grid, 0–1."""
    bracket: tuple[float, float]
    """The grid points between which the observed ratios rise from 5 to 95 % of the height."""

    @property
    def identified(self) -> bool:
        """Whether the grid resolves the width of the rise."""
        return not math.isnan(self.width)

    @property
    def width_at_most(self) -> float:
        """Upper bound of the width, which assumes only that Think #R rises with λ."""
        return self.bracket[1] - self.bracket[0]


def fit_transition(
    lams: Sequence[float] | np.ndarray,
    closed: Sequence[float] | np.ndarray,
    totals: Sequence[float] | np.ndarray | float | None = None,
) -> Transition:
    """Fit the rise of Think #R by maximum binomial likelihood.

    With `totals` (responses per λ, or one number for all), `closed` counts the responses with `</think>`; without,
    `closed` holds ratios 0–1, all of equal weight, as in a published table. NaN ratios are left out; the λ may be in
    any order. Lapse rates as in psychometric functions (Wichmann & Hill 2001, Perception & Psychophysics 63:1293), at
    most 0.25. It always returns a curve; `mull.analysis.stages` decides whether there is a rise. Raises `MullError`
    for lengths that differ, counts above their totals, and fewer than 4 different λ.
    """
    lam, ratio, weight = observations(lams, closed, totals)
    if lam.size < FEWEST:
        raise MullError(f"a transition needs at least {FEWEST} λ with a Think #R, got {lam.size}", "measure more λ")
    midpoint, log_scale, low, high = map(float, best_curve(lam, ratio, weight))
    scale, height = math.exp(log_scale), 1 - low - high
    residual = float(np.abs(low + height * expit((lam - midpoint) / scale) - ratio).max())
    step = _best_step(lam, ratio, weight)
    if step is not None and step.largest_residual <= max(SHARP_RESIDUAL, residual + SHARP_RESIDUAL / 2):
        return step
    return Transition(
        midpoint=midpoint,
        width=2 * math.log(19) * scale,
        low_lapse=low,
        high_lapse=high,
        crossing_5=midpoint - math.log(19) * scale,
        crossing_95=midpoint + math.log(19) * scale,
        crossing_99=midpoint + math.log(99) * scale,
        largest_residual=residual,
        bracket=_bracket(lam, (ratio - low) / height),
    )


def observations(lams, closed, totals=None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(λ, ratio 0–1, weight), each float64 [L], sorted by λ. Equal λ are pooled; NaN and weights of 0 are left out."""
    lam, value = np.asarray(lams, dtype=float), np.asarray(closed, dtype=float)
    if lam.shape != value.shape or lam.ndim != 1:
        raise MullError(f"λ and Think #R differ in length: {lam.shape} and {value.shape}", "give one ratio per λ")
    weight = np.ones(lam.shape) if totals is None else np.broadcast_to(np.asarray(totals, dtype=float), lam.shape)
    kept = ~np.isnan(lam) & ~np.isnan(value) & (weight > 0)
    lam, value, weight = lam[kept], value[kept], weight[kept]
    value = value * weight if totals is None else value
    if np.any(value < 0) or np.any(value > weight * (1 + 1e-9)):
        raise MullError("a Think #R lies outside 0–1", "give ratios as fractions, or closed counts with their totals")
    unique, index = np.unique(lam, return_inverse=True)
    pooled = np.bincount(index, weights=weight, minlength=unique.size)
    return unique, np.bincount(index, weights=value, minlength=unique.size) / pooled, pooled


def best_curve(lam: np.ndarray, ratio: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The most likely of the curves fitted from several starts: (midpoint, ln s, low lapse, high lapse) [4]."""
    span = lam[-1] - lam[0]
    middles = [_linear_crossing(lam, ratio, 0.5), lam[0] + span / 4, lam[0] + 3 * span / 4]
    starts_S4 = np.array([[m, math.log(span / part), 0.01, 0.01] for m in middles for part in (60.0, 20.0, 6.0)])
    fits_S4, losses_S = curves(lam, np.tile(ratio, (9, 1)), np.tile(weight, (9, 1)), starts_S4)
    return fits_S4[losses_S.argmin()]


def curves(
    lam: np.ndarray, ratio_RL: np.ndarray, weight_RL: np.ndarray, start_R4: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Fit R curves to R sets of ratios at once, each from its own start: parameters [R, 4] and losses [R].

    Minimises the mean negative log-likelihood by Fisher scoring with Levenberg–Marquardt damping, within bounds.
    Scoring needs no second derivatives, and fitting all resamples at once takes little longer than one fit.
    """
    span = lam[-1] - lam[0]
    floor = np.array([lam[0] - span / 2, math.log(np.diff(lam).min() / 40), 0.0, 0.0])
    ceiling = np.array([lam[-1] + span / 2, math.log(2 * span), MAX_LAPSE, MAX_LAPSE])
    share_RL = weight_RL / weight_RL.sum(axis=1, keepdims=True)

    def shape(x_R4: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        z_RL = (lam - x_R4[:, :1]) / np.exp(x_R4[:, 1:2])
        sigma_RL = expit(z_RL)
        p_RL = x_R4[:, 2:3] + (1 - x_R4[:, 2:3] - x_R4[:, 3:]) * sigma_RL
        return z_RL, sigma_RL, np.clip(p_RL, 1e-9, 1 - 1e-9)

    def loss(p_RL: np.ndarray) -> np.ndarray:
        return -(share_RL * (ratio_RL * np.log(p_RL) + (1 - ratio_RL) * np.log1p(-p_RL))).sum(axis=1)

    x_R4, damping_R = np.clip(start_R4, floor, ceiling), np.full(len(start_R4), 1e-2)
    z_RL, sigma_RL, p_RL = shape(x_R4)
    loss_R = loss(p_RL)
    for _ in range(80):
        by_z_RL = (1 - x_R4[:, 2:3] - x_R4[:, 3:]) * sigma_RL * (1 - sigma_RL)
        jacobian_RL4 = np.stack([-by_z_RL / np.exp(x_R4[:, 1:2]), -by_z_RL * z_RL, 1 - sigma_RL, -sigma_RL], axis=2)
        precision_RL = share_RL / (p_RL * (1 - p_RL))
        uphill_R4 = np.einsum("rl,rlp->rp", precision_RL * (ratio_RL - p_RL), jacobian_RL4)
        free_R4 = ~((x_R4 <= floor) & (uphill_R4 < 0) | (x_R4 >= ceiling) & (uphill_R4 > 0))
        jacobian_RL4 = jacobian_RL4 * free_R4[:, None, :]
        information_R44 = np.einsum("rl,rlp,rlq->rpq", precision_RL, jacobian_RL4, jacobian_RL4)
        diagonal_R4 = np.einsum("rpp->rp", information_R44)
        information_R44 = information_R44 + np.eye(4) * (damping_R[:, None] * diagonal_R4 + 1e-12)[:, :, None]
        step_R4 = np.linalg.solve(information_R44, (uphill_R4 * free_R4)[:, :, None])[:, :, 0]
        # Change ln s by at most 1 per step: the quadratic approximation does not hold further away.
        step_R4[:, 1] = np.clip(step_R4[:, 1], -1, 1)
        next_R4 = np.clip(x_R4 + step_R4, floor, ceiling)
        next_z, next_sigma, next_p = shape(next_R4)
        next_loss = loss(next_p)
        better_R = next_loss < loss_R
        gain = float(np.where(better_R, loss_R - next_loss, 0).max())
        x_R4 = np.where(better_R[:, None], next_R4, x_R4)
        z_RL, sigma_RL, p_RL = (
            np.where(better_R[:, None], new, old)
            for new, old in ((next_z, z_RL), (next_sigma, sigma_RL), (next_p, p_RL))
        )
        loss_R = np.where(better_R, next_loss, loss_R)
        damping_R = np.clip(np.where(better_R, damping_R / 5, damping_R * 5), 1e-9, 1e9)
        if gain < 1e-12 and damping_R.min() > 1:
            break
    return x_R4, loss_R


def _best_step(lam: np.ndarray, ratio: np.ndarray, weight: np.ndarray) -> Transition | None:
    """The best step curve: two plateaus and at most one λ between them, through which a steep rise can pass exactly.

    None if no step has both plateaus within the limits of the lapse rates.
    """
    best: tuple[float, Transition] | None = None
    for first_high in range(1, lam.size):
        for last_low in (first_high - 1, first_high - 2):
            if last_low < 0:
                continue
            left, right = slice(0, last_low + 1), slice(first_high, None)
            low = min(float(np.average(ratio[left], weights=weight[left])), MAX_LAPSE)
            high = max(float(np.average(ratio[right], weights=weight[right])), 1 - MAX_LAPSE)
            fitted = np.concatenate([np.full(last_low + 1, low), np.full(lam.size - first_high, high)])
            seen = np.concatenate([ratio[left], ratio[right]])
            between = ratio[last_low + 1 : first_high]
            if np.any(between < low) or np.any(between > high):
                continue
            residual = float(np.abs(fitted - seen).max())
            # A λ between the plateaus is a free parameter, so a step with one must fit clearly better.
            penalised = residual + SHARP_RESIDUAL / 4 * between.size
            if best is None or penalised < best[0]:
                span = slice(last_low, first_high + 1)
                middle = _linear_crossing(lam[span], (ratio[span] - low) / (high - low), 0.5)
                found = Transition(
                    midpoint=middle,
                    width=math.nan,
                    low_lapse=low,
                    high_lapse=1 - high,
                    crossing_5=math.nan,
                    crossing_95=math.nan,
                    crossing_99=math.nan,
                    largest_residual=residual,
                    bracket=(float(lam[last_low]), float(lam[first_high])),
                )
                best = (penalised, found)
    return best[1] if best else None


def _bracket(lam: np.ndarray, rise: np.ndarray) -> tuple[float, float]:
    above = np.flatnonzero(rise >= 0.95)
    end = int(above[0]) if above.size else lam.size - 1
    below = np.flatnonzero(rise[:end] <= 0.05)
    return float(lam[below[-1] if below.size else 0]), float(lam[end])


def _linear_crossing(lam: np.ndarray, ratio: np.ndarray, level: float) -> float:
    """First λ at which the straight lines between the points reach `level`; the middle of the grid if none does."""
    for i in range(lam.size - 1):
        if ratio[i] < level <= ratio[i + 1]:
            return float(lam[i] + (lam[i + 1] - lam[i]) * (level - ratio[i]) / (ratio[i + 1] - ratio[i]))
    return float((lam[0] + lam[-1]) / 2)
