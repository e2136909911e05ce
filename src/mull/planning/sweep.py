"""What sampling takes: tokens and seconds of missing responses, setting by setting.

`mull sweep --dry-run` counts with the means and the speed of the run so far, `mull plan` with published or given means
and with bounds of time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np


class Part(NamedTuple):
    """Missing responses of one setting."""

    responses: int
    most: int
    """Most tokens of each."""
    tokens: float | None
    """Mean tokens expected of each; None if nothing is known."""


class Total(NamedTuple):
    """Of all parts. `tokens` and `seconds` are None if they are not known."""

    responses: int
    most_tokens: int
    tokens: float | None
    seconds: float | None


def mean_tokens(lam: float, measured: Sequence[tuple[float, float]]) -> float:
    """Mean tokens per response at `lam`, interpolated between (λ, mean tokens), of which there must be some."""
    lams, means = zip(*sorted(measured), strict=True)
    return float(np.interp(lam, lams, means))


def total(parts: Iterable[Part], seconds_of: Callable[[Part], float] | None) -> Total:
    """The sum over parts; `seconds_of` says how long one takes whose tokens are known, None if no speed is known."""
    due = [part for part in parts if part.responses]
    known = all(part.tokens is not None for part in due)
    return Total(
        responses=sum(part.responses for part in due),
        most_tokens=sum(part.responses * part.most for part in due),
        tokens=sum((part.responses * (part.tokens or 0.0) for part in due), 0.0) if known else None,
        seconds=sum(map(seconds_of, due), 0.0) if known and seconds_of else (None if due else 0.0),
    )
