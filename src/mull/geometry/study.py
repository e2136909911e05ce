"""The pilot study of a pair: do representations and loss change continuously along λ, beside a control that cannot.

A reconstruction: Yang et al. 2026 ("System 1&2 Synergy via Dynamic Model Interpolation", DAMI, arXiv 2601.21414) report
a pilot study after which interpolation gives "a convex, monotonic Pareto frontier, underpinned by representation
continuity and structural connectivity". Only their abstract could be read, not how they measured it. Here each is
taken in a standard form: continuity by cosine and linear CKA of hidden states (Kornblith et al. 2019, arXiv
1905.00414), connectivity by the loss barrier

    max over λ of  L(λ) − (1−λ)·L(0) − λ·L(1)

(Frankle et al. 2020, arXiv 1912.05671, with the loss on held-out responses of both ends in place of the test error).
The control, which is ours, is the same pair with the rows of Thinking's weights shuffled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from mull.analysis.choosing.headroom import Interval
from mull.analysis.metrics import bootstrap
from mull.errors import MullError
from mull.geometry.mixtures import Mixtures, one_thread_if_small
from mull.geometry.similarity import cka, layer_statistics, linearity_error
from mull.geometry.texts import STYLES, Style, Text

RESAMPLES = 1000
"""Of the questions, for the intervals."""
ROUNDING = 1e-6
"""Nats per token: a smaller barrier may be the rounding of float32."""


class Banded(NamedTuple):
    """Values with the limits of their 95 % intervals: three arrays of one shape, NaN where undefined."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def at(self, *index: int) -> Interval:
        """One of the values."""
        return Interval(*(float(part[index]) for part in self))


class Sums(NamedTuple):
    """What was measured of one pair, added up by question: Q questions, H hidden states (layers + 1), L λ."""

    own: np.ndarray
    """`[Q, H, L]`; this and the next three: see `LayerStatistics`."""
    cross: np.ndarray
    """`[Q, H, L − 1]`"""
    cosine: np.ndarray
    """`[Q, H, L − 1]`"""
    distance: np.ndarray
    """`[Q, H, L]`"""
    change: np.ndarray
    """`[Q, H]`"""
    texts: np.ndarray
    """Texts per question `[Q]`."""
    losses: dict[Style, np.ndarray]
    """Negative log-likelihoods of the texts of each style, in nats: `[Q, L]`."""
    tokens: dict[Style, np.ndarray]
    """Their tokens: `[Q]`."""


@dataclass(frozen=True, kw_only=True)
class Barrier:
    """The loss along λ on texts of one style, in nats per token."""

    loss: Banded
    """`[L]`"""
    excess: Banded
    """Loss minus the straight line between the ends' losses: `[L]`, 0 at the ends."""
    height: Interval
    """The barrier: the largest excess, at least 0 since the ends count."""
    inside: Interval
    """The largest excess strictly between the ends; negative where the loss lies below the line everywhere."""
    at: float
    """λ of the largest excess between the ends."""

    @property
    def stands(self) -> bool:
        """Whether there is a barrier, beyond its interval."""
        return self.height.low > ROUNDING


@dataclass(frozen=True, kw_only=True)
class Side:
    """The measures of one pair: the real one, or the control."""

    cka: Banded
    """Of neighbouring λ: `[H, L − 1]`."""
    cosine: Banded
    """`[H, L − 1]`"""
    linearity: Banded
    """The linearity error: `[H, L]`."""
    lowest_cka: Interval
    mean_cka: Interval
    lowest_cosine: Interval
    largest_linearity: Interval
    barriers: dict[str, Barrier]
    """On responses of each style ("instruct", "thinking"), and "both", the mean of the two losses."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """The pair beside its control, on the same texts."""

    lams: tuple[float, ...]
    questions: int
    texts: int
    tokens: dict[str, int]
    """Response tokens by style."""
    rounded: bool
    """Whether the weights were rounded as in merged checkpoints; else they are the exact mixture."""
    pair: Side
    control: Side
    cka_gain: Interval
    """Mean CKA of the pair minus that of the control, on the same resamples."""
    barrier_gain: Interval
    """The control's barrier minus the pair's, on both styles, likewise."""

    @property
    def gradual(self) -> bool:
        """Whether neighbouring λ are more alike than with shuffled weights, beyond the interval."""
        return self.cka_gain.low > 0

    @property
    def connected(self) -> bool:
        """Whether no text shows a loss barrier: every interval of a barrier's height begins at 0."""
        return not any(barrier.stands for barrier in self.pair.barriers.values())

    @property
    def control_breaks(self) -> bool:
        """Whether the control is worse in both: else the study could not have found a break."""
        return self.gradual and self.barrier_gain.low > 0


def measured(mixtures: Mixtures, texts: Sequence[Text], advance: Callable[[int], object] = lambda count: None) -> Sums:
    """Read all texts and add up their statistics by question; `advance(1)` is called after each text.

    Raises:
        MullError: λ that do not rise from 0 to 1, a model that gives numbers that are not finite, or out of memory.
    """
    lams = torch.tensor(mixtures.lams, dtype=torch.float64)
    if len(lams) < 3 or lams[0] != 0 or lams[-1] != 1 or not bool((lams.diff() > 0).all()):
        raise MullError(f"the λ must rise from 0 to 1 with one between, got {list(mixtures.lams)}", "give 0,0.5,1")
    number = {question: i for i, question in enumerate(dict.fromkeys(text.question for text in texts))}
    sums: Sums | None = None
    with one_thread_if_small(mixtures.model):
        for text in texts:
            reading = mixtures.read(text.prompt, text.response)
            layers = [layer_statistics(states, lams) for states in reading.states]
            sums = sums or _zeros(len(number), len(layers), len(lams))
            i = number[text.question]
            for name in ("own", "cross", "cosine", "distance", "change"):
                getattr(sums, name)[i] += np.array([getattr(layer, name) for layer in layers])
            sums.texts[i] += 1
            sums.losses[text.style][i] += reading.losses.double().cpu().numpy()
            sums.tokens[text.style][i] += len(text.response)
            advance(1)
    assert sums is not None
    if not all(np.isfinite(part).all() for part in (sums.own, sums.distance, *sums.losses.values())):
        raise MullError("hidden states or losses are not finite", "look for NaN in the weights with `mull inspect`")
    return sums


def _zeros(questions: int, layers: int, lams: int) -> Sums:
    def zeros(*shape: int) -> np.ndarray:
        return np.zeros((questions, *shape))

    neighbours = (layers, lams - 1)
    return Sums(
        own=zeros(layers, lams),
        cross=zeros(*neighbours),
        cosine=zeros(*neighbours),
        distance=zeros(layers, lams),
        change=zeros(layers),
        texts=zeros(),
        losses={style: zeros(lams) for style in STYLES},
        tokens={style: zeros() for style in STYLES},
    )


def study(lams: Sequence[float], pair: Sums, control: Sums, *, rounded: bool, seed: int = 0) -> Study:
    """The findings from the sums of the pair and its control, with intervals over resampled questions."""
    questions = len(pair.texts)
    # The first row is the sample as it is, the others are its resamples.
    weights = np.vstack([np.ones(questions), bootstrap(questions, RESAMPLES, seed)])
    sides = [_replicates(sums, np.asarray(lams), weights) for sums in (pair, control)]
    heights = [replicates.excess["both"].max(-1) for replicates in sides]
    return Study(
        lams=tuple(lams),
        questions=questions,
        texts=int(pair.texts.sum()),
        tokens={style: int(pair.tokens[style].sum()) for style in STYLES},
        rounded=rounded,
        pair=_side(sides[0], lams),
        control=_side(sides[1], lams),
        cka_gain=_interval(np.nanmean(sides[0].cka, (1, 2)) - np.nanmean(sides[1].cka, (1, 2))),
        barrier_gain=_interval(heights[1] - heights[0]),
    )


class _Replicates(NamedTuple):
    """The measures of the sample and of its R − 1 resamples."""

    cka: np.ndarray
    """`[R, H, L − 1]`"""
    cosine: np.ndarray
    linearity: np.ndarray
    """`[R, H, L]`"""
    losses: dict[str, np.ndarray]
    """`[R, L]`"""
    excess: dict[str, np.ndarray]


def _replicates(sums: Sums, lams: np.ndarray, weights: np.ndarray) -> _Replicates:
    def added(values: np.ndarray) -> np.ndarray:
        return np.tensordot(weights, values, axes=1)

    losses: dict[str, np.ndarray] = {
        style: added(sums.losses[style]) / added(sums.tokens[style])[:, None] for style in STYLES
    }
    losses["both"] = np.mean([losses[style] for style in STYLES], axis=0)
    return _Replicates(
        cka=cka(added(sums.cross), added(sums.own)),
        cosine=added(sums.cosine) / added(sums.texts)[:, None, None],
        linearity=linearity_error(added(sums.distance), added(sums.change)),
        losses=losses,
        excess={name: excess_loss(loss, lams) for name, loss in losses.items()},
    )


def excess_loss(losses: np.ndarray, lams: np.ndarray) -> np.ndarray:
    """L(λ) − (1−λ)·L(0) − λ·L(1), `[…, L]` of losses at the `lams` `[L]`, the first 0 and the last 1; its maximum is
    the barrier (Frankle et al. 2020, arXiv 1912.05671, section 3)."""
    found = losses - ((1 - lams) * losses[..., :1] + lams * losses[..., -1:])
    found[..., [0, -1]] = 0.0
    return found


def _side(found: _Replicates, lams: Sequence[float]) -> Side:
    def barrier(name: str) -> Barrier:
        excess = found.excess[name]
        return Barrier(
            loss=_banded(found.losses[name]),
            excess=_banded(excess),
            height=_interval(excess.max(-1)),
            inside=_interval(excess[:, 1:-1].max(-1)),
            at=float(lams[1 + int(excess[0, 1:-1].argmax())]),
        )

    return Side(
        cka=_banded(found.cka),
        cosine=_banded(found.cosine),
        linearity=_banded(found.linearity),
        lowest_cka=_interval(_extreme(np.fmin, found.cka)),
        mean_cka=_interval(np.nanmean(found.cka, (1, 2))),
        lowest_cosine=_interval(_extreme(np.fmin, found.cosine)),
        largest_linearity=_interval(_extreme(np.fmax, found.linearity)),
        barriers={name: barrier(name) for name in found.losses},
    )


def _extreme(of_two: np.ufunc, values: np.ndarray) -> np.ndarray:
    """The least (`np.fmin`) or largest (`np.fmax`) of each replicate's defined values."""
    return of_two.reduce(values.reshape(len(values), -1), axis=1)


def _banded(replicates: np.ndarray) -> Banded:
    """The first replicate, with the 2.5 and 97.5 % quantiles of the others."""
    unknown = np.isnan(replicates).any(0)
    low, high = np.quantile(np.where(unknown, 0.0, replicates)[1:], [0.025, 0.975], axis=0)
    return Banded(*(np.where(unknown, np.nan, part) for part in (replicates[0], low, high)))


def _interval(replicates: np.ndarray) -> Interval:
    return _banded(replicates).at()
