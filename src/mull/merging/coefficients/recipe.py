"""`Recipe`: weights named by what they are made of. A λ is the plainest one; every study is a list of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mull.merging.coefficients import Coefficients
from mull.merging.methods import Method
from mull.merging.methods.mi import Mi

PAIR = ("instruct", "thinking")


@dataclass(frozen=True)
class Recipe:
    """A method on checkpoints that an engine holds, called by their roles."""

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
        """For the plan of a run; of a plain interpolation the coefficients alone."""
        coefficients = self.coefficients.to_json()
        if self.is_interpolation:
            return coefficients
        return {**self.method.to_json(), "coefficients": coefficients, "models": list(self.models), "base": self.base}
