"""Chooses layer and penalty of a fit by cross-validation over questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

FOLDS = 5
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
MIDDLE = 1e-1
"""The penalty with which layers are compared."""

FoldLoss = Callable[[np.ndarray, np.ndarray, int, float], float]
"""Loss on the questions of the second mask of a fit on those of the first (bool `[Q]`), at a layer and a penalty."""


class Selected(NamedTuple):
    """What cross-validation chose."""

    layer: int
    penalty: float
    loss: float
    """Mean over the folds."""


def select(layers: Sequence[int], train_Q: np.ndarray, loss: FoldLoss) -> Selected:
    """The layer and then the penalty with the least mean loss over `FOLDS` folds of the questions `train_Q` (bool)."""
    fold_Q = np.full(len(train_Q), -1)
    fold_Q[train_Q] = np.arange(train_Q.sum()) % FOLDS

    def mean(layer: int, penalty: float) -> float:
        losses = [loss(train_Q & (fold_Q != fold), fold_Q == fold, layer, penalty) for fold in range(FOLDS)]
        return float(np.mean(losses))

    by_layer = {layer: mean(layer, MIDDLE) for layer in layers}
    layer = min(by_layer, key=by_layer.__getitem__)
    by_penalty = {p: by_layer[layer] if p == MIDDLE else mean(layer, p) for p in PENALTIES}
    penalty = min(by_penalty, key=by_penalty.__getitem__)
    return Selected(layer, penalty, by_penalty[penalty])


def candidates(count: int) -> list[int]:
    """The layers that are tried: a quarter, half, three quarters of the way, and the last of `count`."""
    return sorted({max(0, round(count * share) - 1) for share in (0.25, 0.5, 0.75, 1.0)})
