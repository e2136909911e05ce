"""The interface of every estimator: what is measured of a query, and the λ that it is answered with.

Estimators are pure: they compute λ from measurements (`Signals`) and know no engine, so that a server, a router of
somebody else's or a test can call them. What they need to be measured, they name; `mull.dynamic.probing` measures it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

import numpy as np

from mull.errors import MullError


class Need(StrEnum):
    """What can be measured of a query before it is answered."""

    forced_instruct = "forced answer of Instruct"
    forced_thinking = "forced answer of Thinking"
    hidden_instruct = "hidden state of Instruct"
    hidden_thinking = "hidden state of Thinking"


class Cost(NamedTuple):
    """Tokens that a measurement took."""

    generated: int = 0
    prefilled: int = 0
    """Prompt tokens read, template and forcing text included."""

    def __add__(self, other: object) -> Cost:
        assert isinstance(other, Cost)
        return Cost(self.generated + other.generated, self.prefilled + other.prefilled)


@dataclass(frozen=True, kw_only=True)
class ForcedAnswer:
    """What an end of the pair answers if it must answer at once, greedily."""

    text: str
    logprobs: tuple[float, ...]
    """Natural log of the probability of each token of the answer."""
    entropy: float
    """Of the distribution of the answer's first token, in nats. The tokens beyond the 20 likeliest count as one."""
    cost: Cost

    @property
    def confidence(self) -> float:
        """Geometric mean of the token probabilities, 0–1 (after DEER, Yang et al. 2025, arXiv 2504.15895)."""
        return math.exp(sum(self.logprobs) / len(self.logprobs)) if self.logprobs else 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Hidden:
    """Hidden states of one end at one position of the prompt: float32 `[layers, hidden]`, embedding left out."""

    layers: np.ndarray
    cost: Cost


@dataclass(frozen=True, kw_only=True, eq=False)
class Signals:
    """Everything that was measured of one query."""

    query: str
    """Names the query: a question's id, or a hash of the conversation."""
    measured: Mapping[Need, ForcedAnswer | Hidden] = field(default_factory=dict)

    def forced(self, need: Need) -> ForcedAnswer:
        """The forced answer of an end. Raises `MullError` if it was not measured."""
        found = self.measured.get(need)
        if not isinstance(found, ForcedAnswer):
            raise self._missing(need)
        return found

    def hidden(self, need: Need) -> Hidden:
        """The hidden states of an end. Raises `MullError` if they were not measured."""
        found = self.measured.get(need)
        if not isinstance(found, Hidden):
            raise self._missing(need)
        return found

    def cost(self, needs: Collection[Need]) -> Cost:
        """Of measuring `needs`."""
        return sum((self.measured[need].cost for need in sorted(needs)), Cost())

    def _missing(self, need: Need) -> MullError:
        return MullError(f"the {need} was not measured for {self.query!r}", "give the estimator what it needs")


class Choice(NamedTuple):
    """The λ of one query."""

    lam: float
    why: str
    """The signal in words, with its value."""
    cost: Cost = Cost()


class Estimator(Protocol):
    """Chooses λ for a query. Implementations are frozen dataclasses, which can be pickled."""

    @property
    def name(self) -> str: ...

    @property
    def needs(self) -> frozenset[Need]:
        """What must be measured before `choose`."""
        ...

    def choose(self, signals: Signals) -> Choice:
        """The λ for what was measured of a query. Raises `MullError` where a need was not measured."""
        ...

    def record(self) -> dict[str, Any]:
        """Everything that decides its choices, as JSON."""
        ...


def clipped(lam: float) -> float:
    """λ within 0 and 1, with four decimals: as it is shown, recorded and used."""
    return round(min(1.0, max(0.0, lam)), 4)
