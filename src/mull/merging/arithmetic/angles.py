"""Angles between tensors, and the factors of weighted sums that are computed from them.

Everything that depends on angles alone works on the matrix of inner products, so that each tensor is read only once.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mull.merging.arithmetic import compiled
from mull.merging.arithmetic.source import BLOCK, NotFinite, Source

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

_CANCELLED = 1e-12
"""If a weighted mean of unit vectors has a squared length below this, its direction is only rounding error."""
SUMS = 32
"""Number of partial sums; the same as PARTIAL_SUMS in kernels/sums.h."""
_PARALLEL = 1 - 1e-14
"""Two directions whose cosine is at least this, or at most its negative, are parallel up to rounding error."""


def products(source: Source) -> NDArray[np.float64]:
    """Inner products of the models' tensors, after the base (if any) is subtracted: float64 `[models, models]`."""
    count = source.model_count
    parts = [products_of_rows(models, base, models[0].numel())[0] for models, base in source.blocks()]
    inner = np.zeros((count, count))
    for pair, (i, j) in enumerate(_pairs(count)):
        sums = [part[pair] for part in parts]
        if not all(map(math.isfinite, sums)):
            raise NotFinite(source.name, f"{source.name} holds NaN or infinity", "look for it with `mull inspect`")
        inner[i, j] = inner[j, i] = math.fsum(sums)
    return inner


def products_of_rows(models: list[Tensor], base: Tensor | None, length: int) -> NDArray[np.float64]:
    """Inner products of each row of `length` elements: float64 `[rows, pairs]`, pairs (0, 0), (0, 1), … (1, 1), ….

    The order of the sums is fixed: element i of a row is added to partial sum i mod 32, and then the second
    half of the partial sums is added to the first half until one is left.
    """
    rows, count = models[0].numel() // length, len(models)
    inner = np.empty((rows, count * (count + 1) // 2))
    inputs = compiled.inputs(models, base)
    if inputs:
        compiled.kernels.products(*inputs, length, inner)
        return inner
    with np.errstate(invalid="ignore", over="ignore"):  # the caller looks for NaN and infinity
        _add_up(models, base, length, inner)
    return inner


def _add_up(models: list[Tensor], base: Tensor | None, length: int, inner: NDArray[np.float64]) -> None:
    padded = -(-length // SUMS) * SUMS
    rows = max(BLOCK // padded, 1)  # rows per block
    for first in range(0, len(inner), rows):
        part = slice(first * length, (first + rows) * length)
        vectors = [
            model[part].double() if base is None else model[part].double() - base[part].double() for model in models
        ]
        wide = np.zeros((len(models), len(inner[first : first + rows]), padded))
        for padded_rows, vector in zip(wide, vectors, strict=True):
            padded_rows[:, :length] = vector.numpy(force=True).reshape(-1, length)
        for pair, (i, j) in enumerate(_pairs(len(models))):
            inner[first : first + rows, pair] = ordered_sums(wide[i] * wide[j])


def ordered_sums(terms: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sum of each row, whose length is a multiple of 32, in the same order as kernels/sums.h."""
    sums = np.add.reduce(terms.reshape(len(terms), -1, SUMS), axis=1)
    while sums.shape[1] > 1:
        half = sums.shape[1] // 2
        sums = sums[:, :half] + sums[:, half:]
    return sums[:, 0]


def _pairs(count: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(count) for j in range(i, count)]


def arc(inner: NDArray[np.float64], lam: float, linear_above: float) -> tuple[float, float] | None:
    """Factors of the two vectors for the point at λ on the arc between them; None for linear interpolation."""
    norms = np.sqrt(np.diag(inner))
    if not norms.all():
        return None
    cosine = float(np.clip(inner[0, 1] / (norms[0] * norms[1]), -1, 1))
    if abs(cosine) > min(linear_above, _PARALLEL):
        return None
    angle = math.acos(cosine)
    return math.sin((1 - lam) * angle) / math.sin(angle), math.sin(lam * angle) / math.sin(angle)


def arc_of_rows(inner: NDArray[np.float64], lam: float, linear_above: float) -> NDArray[np.float64]:
    """`arc` for each row, from products `[rows, 3]`: factors `[rows, 2]`, linear where `arc` would return None."""
    norms = np.sqrt(inner[:, 0]) * np.sqrt(inner[:, 2])
    with np.errstate(invalid="ignore"):
        cosine = np.clip(inner[:, 1] / np.where(norms > 0, norms, 1.0), -1, 1)
        chord = (norms == 0) | (np.abs(cosine) > min(linear_above, _PARALLEL))
        angle = np.arccos(np.where(chord, 0.0, cosine))  # where chord is true, the angle is not used
        factors = np.stack([np.sin((1 - lam) * angle), np.sin(lam * angle)], axis=1) / np.sin(angle)[:, None]
    return np.where(chord[:, None], [1 - lam, lam], factors)


def spherical_mean(inner: NDArray[np.float64], weights: NDArray[np.float64], *, steps: int, tolerance: float) -> tuple:
    """Factors of the Karcher mean of the vectors' directions, times the weighted mean of their lengths.

    `inner` holds the inner products of the vectors, float64 `[models, models]`. The mean lies in the span of the
    vectors, so that the iteration (gradient descent with step 1 by the exponential map; Karcher 1977, doi
    10.1002/cpa.3160300502) only needs factors and inner products. A zero vector counts for the length, not for the
    direction. If the directions cancel out, they have no mean, and the weighted mean of the vectors is used.
    """
    lengths = np.sqrt(np.diag(inner))
    used = (lengths > 0) & (weights > 0)
    if not used.any():
        return tuple(weights.tolist())
    scale = float(weights @ lengths)
    unit = np.where(lengths > 0, lengths, 1)
    cosines = np.where(np.outer(used, used), inner / np.outer(unit, unit), 0)
    shares = np.where(used, weights, 0) / weights[used].sum()
    squared_length = shares @ cosines @ shares
    if squared_length < _CANCELLED:
        return tuple(weights.tolist())
    weights, mean = shares, shares / math.sqrt(squared_length)
    for _ in range(steps):
        towards = np.clip(cosines @ mean, -1, 1)
        angles = np.arccos(towards)
        near, far = angles < 1e-9, angles > math.pi - 1e-6
        sines = np.where(near | far, 1.0, np.sin(angles))
        # A vector opposite to the mean does not define a direction to move in.
        step = weights * np.where(near, 1.0, np.where(far, 0.0, angles / sines))
        tangent = step - (step @ towards) * mean
        length = math.sqrt(max(tangent @ cosines @ tangent, 0))
        if length < tolerance:
            break
        mean = math.cos(length) * mean + math.sin(length) / length * tangent
    return tuple((mean / unit * scale).tolist())


def mean_cosine(inner: NDArray[np.float64]) -> float:
    """Mean cosine of the angles between all pairs of vectors; the cosine with a zero vector counts as 0."""
    lengths = np.sqrt(np.diag(inner))
    unit = np.where(lengths > 0, lengths, 1)
    cosines = inner / np.outer(unit, unit)
    return float(np.mean(cosines[np.triu_indices(len(inner), 1)]))
