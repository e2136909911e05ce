"""`Coefficients`: the map from parameter name to λ. Every ablation is one of these.

Knows names, not tensors.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from mull.checkpoints.names import layer_of
from mull.errors import MullError, naming
from mull.merging.coefficients.rules import Gradient, Layers, Range, Rule, canonical, shortest

__all__ = ["Coefficients", "Decision", "Gradient", "Layers", "Rule", "check_lambda", "parse_lambdas", "parse_layers"]


LARGEST = 1e6
"""With larger coefficients, weights would overflow or consist of rounding errors."""


class Decision(NamedTuple):
    """The λ of a parameter, and the rule that it comes from."""

    lam: float
    rule: int | None
    """Index of the rule that decided; None = the default."""


@dataclass(frozen=True)
class Coefficients:
    """Ordered rules and a default λ. For each parameter the last rule that matches decides."""

    default: float
    rules: tuple[Rule, ...] = ()
    extrapolate: bool = False
    """Allow λ outside [0, 1]."""

    def __post_init__(self) -> None:
        check_lambda(self.default, extrapolate=self.extrapolate)
        for number, rule in enumerate(self.rules, start=1):
            with _naming_rule(number, len(self.rules)):
                for lam in rule.values:
                    check_lambda(lam, extrapolate=self.extrapolate)

    @classmethod
    def scalar(cls, lam: float, *, extrapolate: bool = False) -> Coefficients:
        """One λ for every parameter."""
        return cls(lam, extrapolate=extrapolate)

    @classmethod
    def only(
        cls,
        lam: float,
        *,
        layers: Layers | None = None,
        modules: Iterable[str] | None = None,
        extrapolate: bool = False,
    ) -> Coefficients:
        """λ for parameters in `layers` and `modules`, 0 (Instruct) for all others: the ablations of Wu et al. 2025
        (arXiv 2510.10977), tables 4 and 5."""
        kinds = tuple(modules) if modules is not None else None
        if layers is None and kinds is None:
            return cls.scalar(lam, extrapolate=extrapolate)
        return cls(0.0, (Rule(lam, layers, kinds),), extrapolate)

    @classmethod
    def per_layer(cls, lams: Iterable[float], *, rest: float = 0.0, extrapolate: bool = False) -> Coefficients:
        """One λ for each layer, `rest` for parameters outside the layers."""
        return cls(rest, (Rule(tuple(lams)),), extrapolate)

    @property
    def is_scalar(self) -> bool:
        return not self.rules

    @property
    def label(self) -> str:
        """The name of these weights in records: the shortest decimal form of a scalar λ, or the rules in words."""
        if self.is_scalar:
            return shortest(self.default)
        parts = []
        for rule in self.rules:
            lams = str(rule.lam) if isinstance(rule.lam, Gradient) else ", ".join(map(shortest, rule.values))
            parts.append(f"{'per layer ' if isinstance(rule.lam, tuple) else ''}{lams} on {rule}")
        return "; ".join(parts) + (f", else {shortest(self.default)}" if self.default else "")

    def values(self) -> list[float]:
        """The default and every λ in the rules."""
        return [self.default, *(lam for rule in self.rules for lam in rule.values)]

    def then(self, rules: Iterable[Rule]) -> Coefficients:
        """These coefficients with further rules, which take precedence over the present ones."""
        return replace(self, rules=(*self.rules, *rules))

    def decisions(self, names: Iterable[str]) -> dict[str, Decision]:
        """λ of each parameter name, with the rule that decided.

        Raises:
            MullError: as `Rule.apply`, for any of the rules.
        """
        names = list(names)
        layers = max((layer for layer in map(layer_of, names) if layer is not None), default=-1) + 1
        decided = dict.fromkeys(names, Decision(float(self.default), None))
        for i, rule in enumerate(self.rules):
            with _naming_rule(i + 1, len(self.rules)):
                decided.update({name: Decision(lam, i) for name, lam in rule.apply(names, layers).items()})
        return decided

    def resolve(self, names: Iterable[str]) -> dict[str, float]:
        """λ of each parameter name; raises as `decisions` does."""
        return {name: decision.lam for name, decision in self.decisions(names).items()}

    def to_json(self) -> dict[str, Any]:
        """A record for `from_json`. Coefficients that older versions could express are written as they wrote them."""
        return {
            "default": self.default,
            "rules": [_rule_to_json(rule) for rule in self.rules],
            "extrapolate": self.extrapolate,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Coefficients:
        return cls(data["default"], tuple(map(_rule_from_json, data["rules"])), data["extrapolate"])


def _naming_rule(number: int, count: int) -> AbstractContextManager[None]:
    """Errors raised inside name rule `number` (from 1), unless there is only one rule."""
    return naming(f"rule {number}") if count > 1 else nullcontext()


def _rule_to_json(rule: Rule) -> dict[str, Any]:
    lam = rule.lam
    data: dict[str, Any] = {
        "lambda": {"first": lam.first, "last": lam.last} if isinstance(lam, Gradient) else lam,
        "layers": rule.layers and list(rule.layers),
        "modules": rule.modules,
    }
    return data if rule.name is None else {**data, "name": rule.name}


def _rule_from_json(data: dict[str, Any]) -> Rule:
    lam, layers, modules = data["lambda"], data["layers"], data["modules"]
    if isinstance(lam, dict):
        lam = Gradient(**lam)
    elif isinstance(lam, list | tuple):
        lam = tuple(lam)
    if layers:
        layers = tuple(tuple(item) if isinstance(item, list | tuple) else item for item in layers)
    return Rule(lam, layers or None, tuple(modules) if modules else None, data.get("name"))


def check_lambda(lam: float, *, extrapolate: bool = False) -> None:
    """Raise MullError unless λ is a finite number within ±`LARGEST`, and within [0, 1] without `extrapolate`."""
    if not -LARGEST <= lam <= LARGEST:  # unlike math.isfinite, works for integers of hundreds of digits
        if lam in (math.inf, -math.inf) or lam != lam:
            raise MullError(f"a coefficient (λ, α) must be a finite number, got {lam}")
        raise MullError("a coefficient (λ, α) is too large: weights would overflow", f"stay within ±{LARGEST:,.0f}")
    if not extrapolate and not 0 <= lam <= 1:
        raise MullError(
            f"lambda must lie in [0, 1], got {lam:g} (1 = the Thinking checkpoint)",
            "`mull merge --extrapolate` and `mull sweep --extrapolate` go beyond the ends",
        )


def parse_lambdas(text: str, *, extrapolate: bool = False) -> list[float]:
    """λ values from "0:1:0.1" (start:stop:step, both ends included) or "0,0.4,0.8"; sorted, each once.

    Raises:
        MullError: not of that form, or a λ outside [0, 1] without `extrapolate`.
    """
    try:
        lams: list[float] = []
        for part in text.split(","):
            if ":" in part:
                start, stop, step = (float(x) for x in part.split(":"))
                count = round((stop - start) / step)
                if step <= 0 or count < 0 or count > 10_000:
                    raise ValueError(part)
                if abs(start + count * step - stop) > step * 1e-6:
                    raise MullError(
                        f"steps of {step:g} do not lead from {start:g} to {stop:g}", "choose a step that does"
                    )
                lams += [round(start + i * step, 10) for i in range(count + 1)]
            else:
                lams.append(float(part))
    except (ValueError, ZeroDivisionError, OverflowError):
        raise MullError(f"cannot read the lambdas {text!r}", "write 0:1:0.1 (start:stop:step) or 0,0.4,0.8") from None
    for lam in lams:
        check_lambda(lam, extrapolate=extrapolate)
    return sorted(set(lams))


def parse_layers(text: str) -> Layers:
    """Inclusive layer ranges from "12-35", "7" or "0-11,24-35"; a single range as a pair.

    Raises:
        MullError: not of that form, or a range ends before it begins.
    """
    ranges: list[Range] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d+)\s*(?:[-:]\s*(\d+)\s*)?", part)
        if not found:
            raise MullError(
                f"cannot read the layer range {text!r}",
                "write FIRST-LAST, as in 12-35 (both included, from 0), or several, as in 0-11,24-35",
            )
        first, last = found.groups()
        ranges.append((int(first), int(last or first)))
    return canonical(ranges)
