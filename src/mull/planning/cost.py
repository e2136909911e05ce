"""Time and GPU hours of a sweep on a machine."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

from mull.planning.architecture import Architecture
from mull.planning.hardware import Cluster
from mull.planning.roofline import prefill_seconds, rows_that_fit, step_seconds
from mull.planning.sweep import Part, Total, total
from mull.planning.ways import Fit, held_as, load_of


class LambdaCost(NamedTuple):
    """The responses of one λ, and seconds for them at least."""

    lam: float
    part: Part
    seconds: float


class SweepCost(NamedTuple):
    """A sweep by one way."""

    fit: Fit
    lambdas: list[LambdaCost]
    all: Total
    """Of all λ, switches included."""
    gpus: int

    def hours(self, efficiency: float) -> float:
        """Planned with this share of the bound's speed."""
        return (self.all.seconds or 0.0) / efficiency / 3600


def sweep_cost(
    fit: Fit, model: Architecture, cluster: Cluster, prompt: int, k: int, parts: Sequence[tuple[float, Part]]
) -> SweepCost:
    """What `parts`, the responses of each λ with their mean tokens, take one λ after the other.

    k responses share a prompt, which is read once for them. A λ has as many responses under way as there is room for at
    full length; the last ones, which no full batch shares, are not told apart.
    """
    held = held_as(fit.way, model)

    def seconds(part: Part) -> float:
        tokens = max(1.0, part.tokens or 0.0)
        load = load_of(fit.way, held, 1)
        rows = rows_that_fit(held, cluster.gpu, fit.split, load, prompt + ceil(tokens)) or 1
        replicas = min(fit.replicas, part.responses)
        batch = min(rows, ceil(part.responses / replicas))
        step = step_seconds(held, cluster.gpu, fit.split, load, batch, prompt + tokens / 2)
        prefill = prefill_seconds(held, cluster.gpu, fit.split, load, prompt) / k
        return part.responses / replicas * (prefill + tokens * step / batch)

    whole = total([part for _, part in parts], seconds)
    if whole.seconds is not None:
        whole = whole._replace(seconds=whole.seconds + (fit.switch or 0.0) * len(parts))
    timed = [LambdaCost(lam, part, seconds(part)) for lam, part in parts]
    return SweepCost(fit, timed, whole, fit.split.gpus * fit.replicas)
