"""`Route`: the λ that an estimator chose for a question, as a run records it."""

from __future__ import annotations

from typing import NamedTuple


class Route(NamedTuple):
    """One choice and what it cost."""

    lam: float
    why: str
    generated: int = 0
    """Tokens that were generated to choose."""
    prefilled: int = 0
    """Prompt tokens that were read to choose."""
