"""λ by lot, from the λ that another estimator chose: the same histogram without its knowledge of the query.

An estimator that does not beat this one knows nothing about queries.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mull.dynamic.base import Choice, Need, Signals
from mull.errors import MullError


@dataclass(frozen=True)
class Random:
    """Draws from `lams`, each equally likely; the same query with the same seed gets the same λ."""

    lams: tuple[float, ...]
    seed: int = 0
    name: str = "random"
    needs: frozenset[Need] = frozenset()

    def __post_init__(self) -> None:
        if not self.lams:
            raise MullError("a random λ needs some λ to draw from")

    @classmethod
    def matched(cls, lams: Sequence[float], name: str = "random", seed: int = 0) -> Random:
        """A lot with the histogram of `lams`, which the estimator called `name` chose."""
        return cls(tuple(sorted(lams)), seed, name)

    def choose(self, signals: Signals) -> Choice:
        digest = hashlib.blake2b(f"{self.seed}/{signals.query}".encode(), digest_size=8).digest()
        drawn = int.from_bytes(digest, "little") % len(self.lams)
        return Choice(self.lams[drawn], f"by lot, one of {len(self.lams)}")

    def record(self) -> dict[str, Any]:
        return {"estimator": "random", "of": self.name, "seed": self.seed}
