"""Whether predicted probabilities are right as often as they say."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

BINS = 10


class Bin(NamedTuple):
    """The predictions between two probabilities."""

    predicted: float
    """Their mean."""
    observed: float
    """How often the event happened, 0–1."""
    predictions: int


class Reliability(NamedTuple):
    """A reliability table and its one number."""

    bins: list[Bin]
    """Those that have predictions, by rising probability."""
    error: float
    """Expected calibration error (Naeini et al. 2015): mean of |predicted − observed| over the predictions; NaN
    without any."""


def reliability(predicted_N: np.ndarray, happened_N: np.ndarray) -> Reliability:
    """Sorts predictions 0–1 into `BINS` bins of equal width and compares them with what happened (bool)."""
    place_N = np.minimum((predicted_N * BINS).astype(int), BINS - 1)
    bins = [
        Bin(float(predicted_N[rows].mean()), float(happened_N[rows].mean()), int(rows.sum()))
        for rows in (place_N == place for place in range(BINS))
        if rows.any()
    ]
    total = sum(each.predictions for each in bins)
    error = sum(each.predictions * abs(each.predicted - each.observed) for each in bins) / total if total else np.nan
    return Reliability(bins, float(error))
