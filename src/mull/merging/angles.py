"""Angles between tensors and what follows from them: factors of a weighted sum.

Everything that needs only angles works on the matrix of inner products, so that a tensor is read once.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mull.errors import MullError
from mull.merging.source import BLOCK, Source

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

_CANCELLED = 1e-12
"""Squared length of a sum of unit vectors below which its direction is rounding error."""
_PARALLEL = 1 - 1e-14
"""Cosine from which on two directions, or opposite directions, are one but for rounding error."""


def products(source: Source) -> NDArray[np.float64]:
    """Inner products of the models' tensors, less the base where there is one: float64 `[models, models]`."""
    import torch

    many = source.number
    parts: dict[tuple[int, int], list[float]] = {(i, j): [] for i in range(many) for j in range(i, many)}
    scratch = torch.empty(many, BLOCK, dtype=torch.float64)  # a fresh one for each block would scatter over the heap
    for models, base in source.blocks():
        vectors = scratch[:, : models[0].numel()]
        for vector, model in zip(vectors, models, strict=True):
            vector.copy_(model)
            if base is not None:
                vector.sub_(base)
        for (i, j), sums in parts.items():
            sums.append(torch.dot(vectors[i], vectors[j]).item())
    inner = np.empty((many, many))
    for (i, j), sums in parts.items():
        if not all(map(math.isfinite, sums)):
            raise MullError(f"{source.name} holds NaN or infinity", "look for the checkpoint with `mull inspect`")
        inner[i, j] = inner[j, i] = math.fsum(sums)
    return inner


def arc(inner: NDArray[np.float64], lam: float, linear_above: float) -> tuple[float, float] | None:
    """Factors of the two vectors for the point at λ on the arc between them; None where the chord is to be taken."""
    norms = np.sqrt(np.diag(inner))
    if not norms.all():
        return None
    cosine = float(np.clip(inner[0, 1] / (norms[0] * norms[1]), -1, 1))
    if abs(cosine) > min(linear_above, _PARALLEL):
        return None
    angle = math.acos(cosine)
    return math.sin((1 - lam) * angle) / math.sin(angle), math.sin(lam * angle) / math.sin(angle)


def arc_of_rows(left: Tensor, right: Tensor, lam: float, linear_above: float) -> tuple[Tensor, Tensor]:
    """`arc` for each pair of rows of float64 `[rows, length]`: factors `[rows, 1]`, the chord's where need be."""
    import torch

    norms = left.norm(dim=1, keepdim=True) * right.norm(dim=1, keepdim=True)
    cosine = ((left * right).sum(dim=1, keepdim=True) / torch.where(norms > 0, norms, 1.0)).clamp(-1, 1)
    chord = (norms == 0) | (cosine.abs() > min(linear_above, _PARALLEL))
    angle = torch.acos(torch.where(chord, 0.0, cosine))  # any angle: it is not used
    first, second = torch.sin((1 - lam) * angle) / torch.sin(angle), torch.sin(lam * angle) / torch.sin(angle)
    return torch.where(chord, 1 - lam, first), torch.where(chord, lam, second)


def spherical_mean(inner: NDArray[np.float64], weights: NDArray[np.float64], *, steps: int, tolerance: float) -> tuple:
    """Factors of the Karcher mean of the vectors' directions, times the weighted mean of their lengths.

    The mean lies in the span of the vectors, so that the iteration (gradient descent with step 1 by the exponential
    map; Karcher 1977, doi 10.1002/cpa.3160300502) runs on their factors, with lengths by the inner products. A vector
    that is 0 has a length but no direction. Directions that cancel out have no mean: the vectors' own is taken then.
    """
    lengths = np.sqrt(np.diag(inner))
    used = (lengths > 0) & (weights > 0)
    if not used.any():
        return tuple(weights.tolist())
    scale = float(weights @ lengths)
    unit = np.where(lengths > 0, lengths, 1)
    cosines = np.where(np.outer(used, used), inner / np.outer(unit, unit), 0)
    shares = np.where(used, weights, 0) / weights[used].sum()
    together = shares @ cosines @ shares
    if together < _CANCELLED:
        return tuple(weights.tolist())
    weights, mean = shares, shares / math.sqrt(together)
    for _ in range(steps):
        towards = np.clip(cosines @ mean, -1, 1)
        angles = np.arccos(towards)
        near, far = angles < 1e-9, angles > math.pi - 1e-6
        sines = np.where(near | far, 1.0, np.sin(angles))
        # A vector opposite to the mean draws it in no direction.
        step = weights * np.where(near, 1.0, np.where(far, 0.0, angles / sines))
        tangent = step - (step @ towards) * mean
        length = math.sqrt(max(tangent @ cosines @ tangent, 0))
        if length < tolerance:
            break
        mean = math.cos(length) * mean + math.sin(length) / length * tangent
    return tuple((mean / unit * scale).tolist())


def mean_cosine(inner: NDArray[np.float64]) -> float:
    """Mean cosine of the angles between all pairs of vectors; 0 with a vector that is 0."""
    lengths = np.sqrt(np.diag(inner))
    unit = np.where(lengths > 0, lengths, 1)
    cosines = inner / np.outer(unit, unit)
    return float(np.mean(cosines[np.triu_indices(len(inner), 1)]))
