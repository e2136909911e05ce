"""λ by lot, from the λ that another estimator chose: the same histogram without its knowledge of the query.

An estimator that does not beat this one knows nothing about queries.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mull.dynamic.base import Choice, Need, Signals
from mull.errors import MullError


@dataclass(frozen=True)
class Random:
    """Gives the queries of `lams` their λ in another order, so that the mean is the same; any other query gets one of
    them. The same query with the same seed gets the same λ."""

    lams: Mapping[str, float] = field(hash=False)
    """Query → the λ that the other estimator chose."""
    of: str = ""
    """The name of that estimator."""
    seed: int = 0
    needs: frozenset[Need] = frozenset()

    def __post_init__(self) -> None:
        if not self.lams:
            raise MullError("a random λ needs some λ to draw from")

    @property
    def name(self) -> str:
        return f"random as {self.of}"

    def choose(self, signals: Signals) -> Choice:
        lams = list(self.lams.values())
        place = self._places.get(signals.query, self._lot(signals.query) % len(lams))
        return Choice(lams[place], f"by lot, one of {len(lams)}")

    def record(self) -> dict[str, Any]:
        return {"estimator": "random", "of": self.of, "seed": self.seed}

    @cached_property
    def _places(self) -> dict[str, int]:
        """Query → the place of its λ: a random order of all."""
        return {query: place for place, query in enumerate(sorted(self.lams, key=self._lot))}

    def _lot(self, query: str) -> int:
        digest = hashlib.blake2b(f"{self.seed}/{query}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little")
