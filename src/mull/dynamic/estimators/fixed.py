"""The same λ for every query: what every other estimator must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mull.dynamic.base import Choice, Need, Signals


@dataclass(frozen=True)
class Fixed:
    """A static λ."""

    lam: float
    name: str = "fixed"
    needs: frozenset[Need] = frozenset()

    def choose(self, signals: Signals) -> Choice:
        return Choice(self.lam, "the same for every query")

    def record(self) -> dict[str, Any]:
        return {"estimator": "fixed", "lam": self.lam}
