"""Which λ a request means: by its field, its model's name, its reasoning effort, or the server's default."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from mull.analysis.transition import Transition
from mull.errors import MullError
from mull.serving.wire.errors import ApiError, bad

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
    only: tuple[float, ...] = ()
    """The λ that can be had, rising; empty: any from 0 to 1."""

    def among(self, lams: Iterable[float]) -> Levels:
        """These levels where only `lams` can be had: the efforts go to the nearest. Raises `MullError` if the default
        is none of them."""
        found = replace(self, only=tuple(sorted(lams)))
        if self.default is not None and self.default not in found.only:
            what = f"λ = {number(self.default)} is not served behind"
            raise MullError(what, f"give --lambda one of {', '.join(map(number, found.only))}")
        return replace(found, efforts={effort: found.nearest(lam) for effort, lam in self.efforts.items()})

    def nearest(self, lam: float) -> float:
        """The λ that can be had in place of `lam`."""
        return min(self.only, key=lambda each: abs(each - lam)) if self.only else lam

    def wish(self, model: str, lam: Any, effort: str | None) -> Wish:
        """The λ of a request, from its `lambda` field, else its model's name, else its reasoning effort, else the
        default. Raises `ApiError` for what is no λ of this server, in whichever of them."""
        wishes = [self._field(lam), self._named(self.of_name(model)), self._effort(effort)]
        return next((wish for wish in wishes if wish is not None), Wish(self.default, "default"))

    def of_name(self, model: str) -> str | None:
        """What stands behind the @ of a model's name; None without one. Raises `ApiError` for another model."""
        name, at, level = model.partition("@")
        if name != self.model:
            message = f"no model {model!r} here; ask for {self.model}, or {self.model}@λ with λ from 0 to 1"
            raise ApiError(404, message, param="model", code="model_not_found")
        return level if at else None

    def name(self, lam: float) -> str:
        """The model's name in a reply."""
        return f"{self.model}@{number(lam)}"

    def listed(self) -> list[str]:
        """The names of `/v1/models`: the pair, its ends, the levels of its efforts, and auto."""
        lams = self.only or sorted({0.0, 1.0, *self.efforts.values()})
        return [self.model, *map(self.name, lams), *([f"{self.model}@{AUTO}"] if self.auto else [])]

    @property
    def pattern(self) -> str:
        """A regular expression of the names, as JSON schemas have them."""
        name = re.sub(r"[\\^$.*+?()\[\]{}|/]", r"\\\g<0>", self.model)
        return rf"^{name}(@({AUTO}|{_NUMBER.pattern}))?$"

    def _field(self, given: Any) -> Wish | None:
        if given is None:
            return None
        if given == AUTO:
            return self._auto("lambda", "lambda")
        # Integers may be too large for a float.
        if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= 1:
            raise bad(_WRONG, "lambda")
        return Wish(self._had(float(given) + 0.0, "lambda"), "lambda")

    def _named(self, level: str | None) -> Wish | None:
        if level is None:
            return None
        if level == AUTO:
            return self._auto("model", "model name")
        if not _NUMBER.fullmatch(level) or not float(level) <= 1:
            raise bad(_WRONG, "model")
        return Wish(self._had(float(level), "model"), "model name")

    def _had(self, lam: float, param: str) -> float:
        if self.only and lam not in self.only:
            raise bad(f"λ = {number(lam)} is not served here; there are {', '.join(map(number, self.only))}", param)
        return lam

    def _effort(self, effort: str | None) -> Wish | None:
        if effort is None:
            return None
        if effort not in self.efforts:
            raise bad(f"reasoning_effort must be one of {', '.join(self.efforts)}", "reasoning_effort")
        return Wish(self.efforts[effort], f"reasoning_effort {effort}: {self.measured}")

    def _auto(self, param: str, source: str) -> Wish:
        if not self.auto:
            raise bad("this server has no estimator of λ", param)
        return Wish(None, source)


def number(lam: float) -> str:
    """A λ as users write it, which is read as the same number."""
    return f"{lam:g}" if float(f"{lam:g}") == lam else repr(lam)


def efforts_of(fit: Transition | None) -> dict[str, float] | None:
    """λ of the efforts by a pair's transition: none and max are the ends, low and high those of the transition, medium
    its middle; None where it was not found, or its width not identified."""
    if fit is None or not fit.identified:
        return None
    low, high = (min(1.0, max(0.0, each)) for each in (fit.crossing_5, fit.crossing_95))
    middle = min(high, max(low, fit.midpoint))
    values = (0.0, low / 2, low, middle, high, (1 + high) / 2, 1.0)
    return {effort: round(value, 3) for effort, value in zip(EFFORTS, values, strict=True)}


class Undecided(NamedTuple):
    """Where a response whose prompt opened a thought may be one or a plain answer: at λ between these two.

    There a stream tells no text until it is known. Up to `above` it tells an answer, from `below` on a thought, at
    once.
    """

    above: float = -math.inf
    below: float = 1.0

    @classmethod
    def of(cls, think_ratio: Mapping[float, float]) -> Undecided:
        """From the share of responses with a thought at each λ that was measured."""
        lams = sorted(think_ratio)
        below = next((lam for lam in lams if all(think_ratio[each] >= 1 - RARE for each in lams if each >= lam)), None)
        answers = (lam for lam in lams if all(think_ratio[each] <= RARE for each in lams if each <= lam))
        return cls(max(answers, default=-math.inf), math.inf if below is None else below)


_WRONG = f"λ must be a number from 0 to 1, or {AUTO!r}"
_NUMBER = re.compile(r"(\d+(\.\d*)?|\.\d+)(e-?\d+)?", re.ASCII)
RARE = 0.002
"""Share of responses that a stream may take for what they are not."""
