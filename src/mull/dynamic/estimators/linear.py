"""What the learned estimators share: features from hidden states."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from mull.dynamic.base import Need, Signals
from mull.errors import MullError

logistic = expit


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """The hidden state of one layer, standardised as in training."""

    need: Need
    layer: int
    """Counted from 0, the first decoder layer."""
    mean: np.ndarray
    scale: np.ndarray
    """float64 `[hidden]`."""

    @classmethod
    def fit(cls, need: Need, layer: int, states: np.ndarray) -> Features:
        """Standardisation of `states` `[queries, hidden]`."""
        states = states.astype(np.float64)
        scale = states.std(0)
        return cls(need=need, layer=layer, mean=states.mean(0), scale=np.where(scale > 1e-9, scale, 1.0))

    def of(self, signals: Signals) -> np.ndarray:
        """float64 `[hidden]`. Raises `MullError` for hidden states of another shape than those of the training."""
        layers = signals.hidden(self.need).layers
        if self.layer >= len(layers) or layers.shape[1:] != self.mean.shape:
            what = f"hidden states of {len(layers)} layers × {layers.shape[-1]} do not fit the features"
            raise MullError(what, "train the head again, with `mull route train`")
        return self.standardised(layers[self.layer])

    def standardised(self, states: np.ndarray) -> np.ndarray:
        """Standardised `states`, float64 of the same shape `[…, hidden]`."""
        return (states.astype(np.float64) - self.mean) / self.scale
