"""Which λ a request means: by its field, its model's name, its reasoning effort, or the server's default."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mull.analysis.stages import Stages
from mull.serving.errors import ApiError, bad

AUTO = "auto"
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
GUIDELINE = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0)
"""λ of the efforts for a pair that nobody has measured."""
NOT_MEASURED = "published guideline, not measured on this pair"


class Wish(NamedTuple):
    """How much thinking a request asks for."""

    lam: float | None
    """None: λ is to be chosen for the query."""
    source: str
    """Where it comes from, for the reply."""


@dataclass(frozen=True, kw_only=True)
class Levels:
    """The names by which a server's λ can be asked for."""

    model: str
    """The pair's name."""
    default: float | None
    """λ of a request that asks for none; None: λ(q)."""
    efforts: Mapping[str, float] = field(default_factory=lambda: dict(zip(EFFORTS, GUIDELINE, strict=True)))
    measured: str = NOT_MEASURED
    """Where the λ of the efforts come from."""
    auto: bool = True
    """Whether λ(q) can be had."""

    def wish(self, model: str, lam: Any, effort: str | None) -> Wish:
        """The λ of a request, from its `lambda` field, else its model's name, else its reasoning effort, else the
        default. Raises `ApiError` for what is no λ of this server."""
        named = self.of_name(model)
        if lam is not None:
            return self._checked(lam, "lambda", "lambda")
        if named is not None:
            return self._checked(named, "model", "model name")
        if effort is not None:
            if effort not in self.efforts:
                raise bad(f"reasoning_effort must be one of {', '.join(self.efforts)}", "reasoning_effort")
            return Wish(self.efforts[effort], f"reasoning_effort {effort}: {self.measured}")
        return Wish(self.default, "default")

    def of_name(self, model: str) -> str | None:
        """What stands behind the @ of a model's name; None without one. Raises `ApiError` for another model."""
        name, at, level = model.partition("@")
        if name != self.model:
            message = f"no model {model!r} here; ask for {self.model}, or {self.model}@λ with λ from 0 to 1"
            raise ApiError(404, message, param="model", code="model_not_found")
        return level if at else None

    def name(self, lam: float) -> str:
        """The model's name in a reply."""
        return f"{self.model}@{lam:g}"

    def listed(self) -> list[str]:
        """The names of `/v1/models`: the pair, its ends, the levels of its efforts, and auto."""
        lams = sorted({0.0, 1.0, *self.efforts.values()})
        return [self.model, *map(self.name, lams), *([f"{self.model}@{AUTO}"] if self.auto else [])]

    def _checked(self, given: Any, param: str, source: str) -> Wish:
        if given == AUTO:
            if not self.auto:
                raise bad("this server has no estimator of λ", param)
            return Wish(None, source)
        try:
            lam = math.nan if isinstance(given, bool) else float(given)
        except (TypeError, ValueError):
            lam = math.nan
        if not 0 <= lam <= 1:
            raise bad(f"λ must be a number from 0 to 1, or {AUTO!r}, got {given!r}", param)
        return Wish(lam, source)


def efforts_of(stages: Stages) -> dict[str, float] | None:
    """λ of the efforts by a pair's stages: none and max are the ends, low and high the ends of the transition, medium
    its middle; None where no transition was found."""
    fit = stages.fit
    if not stages.found or fit is None or not fit.identified:
        return None
    low, high = (min(1.0, max(0.0, each)) for each in (fit.crossing_5, fit.crossing_95))
    middle = min(high, max(low, fit.midpoint))
    values = (0.0, low / 2, low, middle, high, (1 + high) / 2, 1.0)
    return {effort: round(value, 3) for effort, value in zip(EFFORTS, values, strict=True)}
