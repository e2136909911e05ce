"""How alike the hidden states of neighbouring λ are on a text: linear CKA, cosine, and distance from the straight line.

Linear CKA (Kornblith et al. 2019, arXiv 1905.00414) of all tokens of all texts needs all states at once, or sums of
d×d products for every layer and λ. Both are too much for a large model, and the sums cannot be resampled over prompts.
So this is the minibatch form of Nguyen et al. 2021 (arXiv 2010.15327): each text gives the *unbiased* HSIC of its own
tokens (Song et al. 2012, J. Mach. Learn. Res. 13, 1393), and CKA is the ratio of their means over texts,

    CKA = Σ HSIC(X, Y) / √(Σ HSIC(X, X) · Σ HSIC(Y, Y)).

What is kept of a text is a few numbers per layer and λ. They add up, so the order and number of texts at a time change
nothing, and memory does not grow with the texts. All is computed in float64.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

FEWEST = 4
"""Tokens of a text: the unbiased HSIC is not defined for fewer."""


class LayerStatistics(NamedTuple):
    """What one text says of one layer, at each of L λ. Means are over tokens."""

    own: np.ndarray
    """HSIC(h_λ, h_λ): `[L]`."""
    cross: np.ndarray
    """HSIC(h_λ, h_λ') with the next λ': `[L − 1]`."""
    cosine: np.ndarray
    """Mean cosine of h_λ and h_λ': `[L − 1]`."""
    distance: np.ndarray
    """Mean of ‖h_λ − ((1−λ)·h_0 + λ·h_1)‖²: `[L]`."""
    change: float
    """Mean of ‖h_1 − h_0‖², or 0 where that is rounding alone."""


def gram(x: Tensor) -> Tensor:
    """The linear kernel of the rows of x `[n, d]`, columns centred, its diagonal set to 0: `[n, n]`."""
    x = x - x.mean(0)
    return (x @ x.T).fill_diagonal_(0.0)


def hsic(k: Tensor, m: Tensor) -> float:
    """The unbiased estimate HSIC₁ of two kernels with zero diagonal `[n, n]`, n ≥ 4 (Song et al. 2012)."""
    n = len(k)
    whole = k.sum() * m.sum() / ((n - 1) * (n - 2))
    return float(((k * m).sum() + whole - 2 / (n - 2) * (k.sum(0) @ m.sum(0))) / (n * (n - 3)))


def layer_statistics(states: Tensor, lams: Tensor) -> LayerStatistics:
    """The statistics of one layer's states `[L, n, d]` at the rising `lams` `[L]`, the first 0 and the last 1."""
    ends = states[0].double(), states[-1].double()
    own, cross, cosine, distance = [], [], [], []
    before: tuple[Tensor, Tensor] | None = None
    for lam, state in zip(lams.tolist(), states, strict=True):
        x = state.double()
        kernel = gram(x)
        own.append(hsic(kernel, kernel))
        if before is not None:
            cross.append(hsic(before[1], kernel))
            cosine.append(torch.cosine_similarity(before[0], x, dim=-1).mean().item())
        distance.append((x - torch.lerp(*ends, lam)).square().sum(-1).mean().item())
        before = x, kernel
    change = (ends[1] - ends[0]).square().sum(-1).mean().item()
    # Embeddings may be equal at both ends; what is then left of the difference is the rounding of the mixtures.
    size = (torch.finfo(states.dtype).eps ** 2) * ends[0].square().sum(-1).mean().item()
    if change <= 16 * size:
        distance, change = [0.0] * len(distance), 0.0
    return LayerStatistics(np.array(own), np.array(cross), np.array(cosine), np.array(distance), change)


def cka(cross: np.ndarray, own: np.ndarray) -> np.ndarray:
    """CKA of neighbouring λ from sums of HSIC over texts: `[…, L − 1]` of `cross` `[…, L − 1]` and `own` `[…, L]`.

    1 where both hidden states are the same up to rotation, scale and shift. NaN where one does not vary at all.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return cross / np.sqrt(own[..., :-1] * own[..., 1:])


def linearity_error(distance: np.ndarray, change: np.ndarray) -> np.ndarray:
    """‖h_λ − ((1−λ)·h_0 + λ·h_1)‖ / ‖h_1 − h_0‖ over all tokens: `[…, L]` of sums `[…, L]` and `[…]`.

    0 on the straight line; NaN where the ends are equal.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt(distance / change[..., None])


def linear_cka(x: Tensor, y: Tensor) -> float:
    """Linear CKA of two sets of hidden states of the same n ≥ 4 tokens, `[n, d]` and `[n, e]`, from unbiased HSIC."""
    k, m = gram(x.double()), gram(y.double())
    scale = hsic(k, k) * hsic(m, m)
    return hsic(k, m) / math.sqrt(scale) if scale > 0 else math.nan
