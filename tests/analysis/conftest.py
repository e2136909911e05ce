"""Samples made by hand: only what a test is about has to be said."""

from __future__ import annotations

import pytest

from mull.analysis.records import Sample


@pytest.fixture
def sample():
    """A maker of samples: `sample(question, lam, correct=…, …)`."""

    def make(question="q1", lam: float | None = 0.5, *, correct=True, **more) -> Sample:
        values = {
            "benchmark": "toy",
            "setting": "TA" if lam is None else f"{lam:g}",
            "index": 0,
            "seed": 0,
            "text": "",
            "tokens": 10,
            "finish": "stop",
            "thinking": "none",
            "answer": "1" if correct else "0",
            "seconds": 1.0,
        } | more
        return Sample(question=question, lam=lam, correct=correct, **values)

    return make
