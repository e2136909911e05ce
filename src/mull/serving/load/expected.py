"""What a response is expected to take: tokens by λ, and seconds by how many responses are under way.

Both are running means of what the server has seen of its own responses. Knows no server and no clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

PLACES = 20
"""Responses count for the nearest of so many λ from 0 to 1, evenly apart."""
RESPONSES = 200
"""A mean number of tokens forgets earlier responses than about this many."""
WORTH = 20
"""A mean that was measured before weighs as much as this many responses of the server's own."""
TOKENS = 500
"""A mean time per token forgets earlier tokens than about this many."""
FIRST_TOKENS = 30
"""A mean time to the first token forgets earlier responses than about this many."""


class Running:
    """A mean of values as they come: plain over the first `memory` of them, then with that weight of the past."""

    def __init__(self, memory: int, mean: float = 0.0, count: int = 0) -> None:
        self._memory, self.mean, self._count = memory, mean, count

    def add(self, value: float) -> None:
        self._count = min(self._count + 1, self._memory)
        self.mean += (value - self.mean) / self._count


class TokenCurve:
    """Mean tokens of a response by λ: a curve that was measured before, times a factor by which the server's own
    responses are longer or shorter; or without such a curve, the means of those responses at each λ.

    Tokens need not rise with λ: on AIME 2025 and IFEval those of Qwen3-4B (published) fall from 0.4 to 0.5.
    """

    def __init__(self, measured: Mapping[float, float] | None = None) -> None:
        """`measured`: mean tokens at some λ, as a sweep has them."""
        self._measured = sorted((measured or {}).items())
        self._own = {0: Running(RESPONSES, 1.0, WORTH)} if self._measured else {}
        """The factor, under 0; or the means, by place of λ."""

    def add(self, lam: float, tokens: float, *, whole: bool = True) -> None:
        """Counts a response. One that is not `whole` was cut off, so that it would have had at least as many tokens: it
        counts as an expected one, or as it is if that is longer."""
        if not whole:
            tokens = max(tokens, self.at(lam) or 0.0)
        place = 0 if self._measured else round(lam * PLACES)
        self._own.setdefault(place, Running(RESPONSES)).add(tokens / self._before(lam))

    def at(self, lam: float) -> float | None:
        """Expected tokens at λ; None if nothing was measured before and no response has come.

        Nothing measured before, they are assumed to fall in proportion to λ below the smallest λ that the server has
        answered with: too few rather than too many, so that a smaller λ is tried, and then known.
        """
        if not self._own:
            return None
        smallest = min(self._own) / PLACES
        share = lam / smallest if lam < smallest else 1.0
        own = _between([(place / PLACES, self._own[place].mean) for place in sorted(self._own)], lam)
        return share * own * self._before(lam)

    def _before(self, lam: float) -> float:
        return _between(self._measured, lam)


def _between(points: Sequence[tuple[float, float]], lam: float) -> float:
    """The line through points at λ, level outside of them; 1 without any."""
    return float(np.interp(lam, [each for each, _ in points], [value for _, value in points])) if points else 1.0


class Pace:
    """Mean seconds by how many responses are under way. Loads up to twice each other count as alike."""

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self._means: dict[int, Running] = {}

    def add(self, load: int, seconds: float) -> None:
        self._means.setdefault(load.bit_length(), Running(self._memory)).add(seconds)

    def at(self, load: int) -> float | None:
        """Expected seconds at this load, or at the most similar one that was seen; None if none was."""
        wanted = load.bit_length()
        nearest = min(self._means, key=lambda each: (abs(each - wanted), each), default=None)
        return None if nearest is None else self._means[nearest].mean
