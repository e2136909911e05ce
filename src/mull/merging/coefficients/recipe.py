"""`Recipe`: how weights are made. The simplest one is a λ; every study is a list of recipes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mull.merging.coefficients import Coefficients
from mull.merging.methods import Method, make
from mull.merging.methods.mi import Mi

PAIR = ("instruct", "thinking")


@dataclass(frozen=True)
class Recipe:
    """A merge method on checkpoints that an engine has loaded; `models` and `base` are their roles."""

    coefficients: Coefficients
    method: Method = field(default_factory=Mi)
    models: tuple[str, ...] = PAIR
    base: str | None = None

    def __post_init__(self) -> None:
        self.method.check_models(len(self.models), has_base=self.base is not None)

    @property
    def is_interpolation(self) -> bool:
        """Whether this is λ·Thinking + (1−λ)·Instruct of the engine's own pair."""
        return self.method == Mi() and self.models == PAIR

    def to_json(self) -> dict[str, Any]:
        """A record for the plan of a run; for an interpolation of the pair, only the coefficients."""
        coefficients = self.coefficients.to_json()
        if self.is_interpolation:
            return coefficients
        return {**self.method.to_json(), "coefficients": coefficients, "models": list(self.models), "base": self.base}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Recipe:
        """The recipe of such a record."""
        if "method" not in data:
            return cls(Coefficients.from_json(data))
        method = make(data["method"], data["parameters"])
        return cls(Coefficients.from_json(data["coefficients"]), method, tuple(data["models"]), data["base"])
