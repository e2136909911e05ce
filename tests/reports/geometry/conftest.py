"""A study without a model: many layers, a control that breaks, a frontier with violations."""

from __future__ import annotations

import numpy as np
import pytest

from mull.analysis.metrics import metrics
from mull.analysis.records import Sample
from mull.geometry.frontier_shape import frontier_shape
from mull.geometry.relative_difference import RelativeDifference
from mull.geometry.study import Sums, study
from mull.runs.sessions.pilot import Pilot

LAMS = tuple(i / 10 for i in range(11))


def sums(noise: float, hump: float, states: int, questions: int = 12) -> Sums:
    """As `measured` would add them up: `noise` lowers CKA, `hump` is the height of the barrier."""
    rng = np.random.default_rng(0)
    lams = np.array(LAMS)
    own = 1 + 0.1 * rng.random((questions, states, len(lams)))
    depth = np.linspace(0, 1, states)[:, None]
    cross = np.sqrt(own[..., 1:] * own[..., :-1]) * (1 - noise * (0.1 + depth) * (0.5 + rng.random(cross_shape(own))))
    distance = (noise + 0.01) * depth * lams * (1 - lams) + 0 * own
    tokens = np.full(questions, 40.0)
    loss = 0.3 + 0.2 * lams**2 + 4 * hump * lams * (1 - lams)
    losses = loss * tokens[:, None] * (1 + 0.05 * rng.random((questions, 1)))
    return Sums(
        own=own,
        cross=cross,
        cosine=2 * (1 - noise * (0.2 + depth) * 0.5 * (0.5 + rng.random(cross_shape(own)))),
        distance=distance,
        change=np.broadcast_to(np.linspace(0, 1, states), (questions, states)).copy(),
        texts=np.full(questions, 2.0),
        losses={"instruct": losses, "thinking": losses[:, ::-1].copy()},
        tokens={"instruct": tokens, "thinking": tokens},
    )


def cross_shape(own: np.ndarray) -> tuple[int, ...]:
    return (*own.shape[:-1], own.shape[-1] - 1)


def samples(hostile: str = "toy") -> list[Sample]:
    accuracies, tokens = (20, 40, 38, 70, 72), (20, 40, 45, 43, 90)
    return [
        Sample(
            benchmark=hostile, question=str(q), setting=f"{lam:g}", lam=lam, index=0, seed=0, text="",
            tokens=count + q % 3, finish="stop", thinking="none", answer="", correct=q < right, seconds=0.0,
        )
        for lam, right, count in zip((0, 0.3, 0.5, 0.7, 1), accuracies, tokens, strict=True)
        for q in range(100)
    ]  # fmt: skip


def make_pilot(
    *, states: int = 37, hump: float = 0.0, noise: float = 1e-3, run: bool = True, same: bool = False, **setup: str
) -> Pilot:
    """`same`: the ends have equal hidden states."""
    pair, control = sums(noise, hump, states), sums(0.5, 3.0, states)
    if same:
        pair = pair._replace(change=0 * pair.change, distance=0 * pair.distance)
    cells = {
        (layer, kind): 0.02 + 0.001 * layer for layer in range(states - 1) for kind in ("attention", "ffn", "norm")
    }
    given = samples() if run else []
    return Pilot(
        title="toy-instruct → toy-thinking",
        study=study(LAMS, pair, control, rounded=False),
        weights=RelativeDifference(0.031, {**cells, (None, "embedding"): 0.001}),  # type: ignore[arg-type]
        frontier=frontier_shape(given) if run else None,
        metrics=metrics(given) if run else [],
        setup={"mull": "0.1.0", "control": "rows of Thinking's weights in random order, seed 0", **setup},
    )


@pytest.fixture
def make():
    return make_pilot
