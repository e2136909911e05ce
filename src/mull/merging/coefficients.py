"""`Coefficients`: the map from parameter name to λ. Every ablation is one of these.

Knows names only, never tensors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mull.checkpoints.names import MODULE_KINDS, layer_of, module_kind
from mull.errors import MullError, nearest


@dataclass(frozen=True)
class Rule:
    """λ for the parameters that lie in `layers` (inclusive range, None = anywhere) and are of one of `modules`."""

    lam: float | tuple[float, ...]
    """One λ, or one per layer counted from the model's first."""
    layers: tuple[int, int] | None = None
    modules: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.modules == () or self.lam == ():
            raise MullError(
                "a rule without module kinds or values matches nothing", "known: " + ", ".join(MODULE_KINDS)
            )
        for kind in self.modules or ():
            if kind not in MODULE_KINDS:
                raise MullError(f"unknown module kind {kind!r}", nearest(kind, MODULE_KINDS))
        if self.layers and not 0 <= self.layers[0] <= self.layers[1]:
            raise MullError(f"layer range {self.layers[0]}-{self.layers[1]} is empty", "write FIRST-LAST, from layer 0")

    def matches(self, name: str) -> bool:
        layer = layer_of(name)
        if (self.layers or isinstance(self.lam, tuple)) and layer is None:
            return False
        if self.layers and layer is not None and not self.layers[0] <= layer <= self.layers[1]:
            return False
        return self.modules is None or module_kind(name) in self.modules

    def at(self, name: str) -> float:
        """λ of a parameter that this rule matches."""
        if isinstance(self.lam, tuple):
            layer = layer_of(name)
            assert layer is not None, name
            return float(self.lam[layer])
        return float(self.lam)

    def __str__(self) -> str:
        where = [f"layers {self.layers[0]}-{self.layers[1]}"] if self.layers else []
        where += ["modules " + ",".join(self.modules)] if self.modules else []
        return " of ".join(reversed(where)) or "all parameters"


@dataclass(frozen=True)
class Coefficients:
    """Ordered rules over a default λ; for each parameter the last rule that matches decides."""

    default: float
    rules: tuple[Rule, ...] = ()
    extrapolate: bool = False
    """Allow λ outside [0, 1]."""

    def __post_init__(self) -> None:
        for lam in self.values():
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
        layers: tuple[int, int] | None = None,
        modules: Iterable[str] | None = None,
        extrapolate: bool = False,
    ) -> Coefficients:
        """λ inside `layers` and `modules`, the Instruct's parameters (λ = 0) elsewhere: the ablations of
        Wu et al. 2025 (arXiv 2510.10977), tables 4 and 5."""
        kinds = tuple(modules) if modules is not None else None
        if layers is None and kinds is None:
            return cls.scalar(lam, extrapolate=extrapolate)
        return cls(0.0, (Rule(lam, layers, kinds),), extrapolate)

    @classmethod
    def per_layer(cls, lams: Iterable[float], *, rest: float = 0.0, extrapolate: bool = False) -> Coefficients:
        """One λ for each layer, `rest` outside the layers."""
        return cls(rest, (Rule(tuple(lams)),), extrapolate)

    @property
    def is_scalar(self) -> bool:
        return not self.rules

    @property
    def label(self) -> str:
        """What the weights are called on records: the shortest decimal form of a scalar λ, else the rules in words."""
        if self.is_scalar:
            return _shortest(self.default)
        parts = []
        for rule in self.rules:
            lams = rule.lam if isinstance(rule.lam, tuple) else (rule.lam,)
            text = ("per layer " if isinstance(rule.lam, tuple) else "") + ", ".join(map(_shortest, lams))
            parts.append(f"{text} on {rule}")
        return "; ".join(parts) + (f", else {_shortest(self.default)}" if self.default else "")

    def values(self) -> list[float]:
        """Every λ that occurs."""
        lams = [self.default]
        for rule in self.rules:
            lams += rule.lam if isinstance(rule.lam, tuple) else [rule.lam]
        return lams

    def resolve(self, names: Iterable[str]) -> dict[str, float]:
        """λ of each parameter name.

        Raises:
            MullError: a rule reaches beyond the model's layers or matches no parameter.
        """
        names = list(names)
        layers = {layer for layer in map(layer_of, names) if layer is not None}
        count = max(layers, default=-1) + 1
        resolved = dict.fromkeys(names, float(self.default))
        for rule in self.rules:
            if rule.layers and rule.layers[1] >= count:
                raise MullError(
                    f"layers {rule.layers[0]}-{rule.layers[1]} reach beyond the model, which has {count} layers",
                    f"layers count from 0 to {count - 1}",
                )
            if isinstance(rule.lam, tuple) and len(rule.lam) != count:
                raise MullError(
                    f"{len(rule.lam)} per-layer values for a model of {count} layers", f"give {count} values"
                )
            matched = [name for name in names if rule.matches(name)]
            if not matched:
                present = ", ".join(sorted({module_kind(name) for name in names}))
                raise MullError(f"no parameter matches {rule}", f"this model has the kinds {present}")
            resolved.update({name: rule.at(name) for name in matched})
        return resolved

    def to_json(self) -> dict[str, Any]:
        return {
            "default": self.default,
            "rules": [
                {"lambda": rule.lam, "layers": rule.layers and list(rule.layers), "modules": rule.modules}
                for rule in self.rules
            ],
            "extrapolate": self.extrapolate,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Coefficients:
        rules = tuple(
            Rule(
                tuple(rule["lambda"]) if isinstance(rule["lambda"], list | tuple) else rule["lambda"],
                tuple(rule["layers"]) if rule["layers"] else None,
                tuple(rule["modules"]) if rule["modules"] else None,
            )
            for rule in data["rules"]
        )
        return cls(data["default"], rules, data["extrapolate"])


def _shortest(lam: float) -> str:
    """The shortest decimal form that reads back as the same number: 0.8, 1, 1e-05."""
    return repr(float(lam) + 0.0).removesuffix(".0")


def check_lambda(lam: float, *, extrapolate: bool = False) -> None:
    """Raise MullError unless λ is a finite number, within [0, 1] or extrapolating on purpose."""
    if not lam - lam == 0:  # inf and nan
        raise MullError(f"lambda must be a finite number, got {lam}")
    if not extrapolate and not 0 <= lam <= 1:
        raise MullError(
            f"lambda must lie in [0, 1], got {lam:g} (1 = the Thinking checkpoint)",
            "pass --extrapolate to go beyond the ends",
        )


def parse_lambdas(text: str, *, extrapolate: bool = False) -> list[float]:
    """λ values from "0:1:0.1" (start:stop:step, both ends included) or "0,0.4,0.8"; sorted, without repeats.

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


def parse_layers(text: str) -> tuple[int, int]:
    """An inclusive layer range from "12-35" or "7"."""
    found = re.fullmatch(r"\s*(\d+)\s*(?:[-:]\s*(\d+)\s*)?", text)
    if not found:
        raise MullError(
            f"cannot read the layer range {text!r}", "write FIRST-LAST, as in 12-35 (both included, from 0)"
        )
    first = int(found.group(1))
    return first, int(found.group(2)) if found.group(2) else first
