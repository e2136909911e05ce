"""Coefficients from a TOML file.

    default = 0.8                       # λ where no rule matches

    [[rule]]                            # in order; the last rule that matches decides
    lambda = 0.5
    layers = "12-35"                    # or "0-11,24-35", or one number
    modules = ["ffn", "norm"]           # or "ffn,norm"

    [[rule]]
    lambda = "0.2->0.9"                 # a gradient; [0.1, 0.2, 0.3] gives one λ per layer
    name = "model.layers.*.mlp.*"       # or "re:…", a regular expression; either for the whole name

`extrapolate = true` at the top allows λ outside [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mull.errors import MullError, naming
from mull.merging.coefficients import Coefficients, Gradient, Rule
from mull.merging.coefficients.selectors import make_rule, parse_value
from mull.toml import entry, read_toml


@dataclass(kw_only=True)
class _Selectors:
    layers: int | str | None = entry('layers = "12-35"', default=None)
    modules: str | tuple[str, ...] | None = entry('modules = ["ffn", "norm"]', default=None)
    name: str | None = entry('name = "model.layers.*.mlp.*"', default=None)

    def made(self, value: float | tuple[float, ...] | str, key: str) -> Rule:
        lam = parse_value(value) if isinstance(value, str) else value
        if isinstance(value, str) and not isinstance(lam, Gradient):
            raise MullError(f"{key} = {value!r} is text", "write numbers without quotes; only a gradient has them")
        modules = ",".join(self.modules) if isinstance(self.modules, tuple) else self.modules
        return make_rule(lam, None if self.layers is None else str(self.layers), modules, self.name)


@dataclass(kw_only=True)
class _Rule(_Selectors):
    lambda_: float | tuple[float, ...] | str = entry('lambda = 0.5, a list of λ, or a gradient as in "0.2->0.9"')

    def __post_init__(self) -> None:
        self.rule = self.made(self.lambda_, "lambda")


@dataclass(kw_only=True)
class CoefficientsTable:
    """A table of λ and its rules."""

    default: float = entry("default = 0.8, the λ where no rule matches")
    rule: tuple[_Rule, ...] = entry("[[rule]] above each rule", default=())
    extrapolate: bool = entry("extrapolate = true", default=False)

    def coefficients(self, *, extrapolate: bool = False) -> Coefficients:
        """The coefficients; `extrapolate` allows λ outside [0, 1] also where the table does not."""
        return Coefficients(self.default, tuple(each.rule for each in self.rule), self.extrapolate or extrapolate)


@dataclass(kw_only=True)
class _ValueRule(_Selectors):
    value: float | tuple[float, ...] | str = entry('value = 0.5, a list of numbers, or a gradient as in "0.2->0.9"')

    def __post_init__(self) -> None:
        self.rule = self.made(self.value, "value")


@dataclass(kw_only=True)
class ValuesTable:
    """A table of a method's parameter and its rules."""

    default: float = entry("default = 0.8, the value where no rule matches")
    rule: tuple[_ValueRule, ...] = entry("[[varying.rule]] above each rule", default=())

    def coefficients(self) -> Coefficients:
        """The values as coefficients, of any size."""
        return Coefficients(self.default, tuple(each.rule for each in self.rule), extrapolate=True)


def load_coefficients(path: Path, *, extrapolate: bool = False) -> Coefficients:
    """Coefficients from a TOML file; `extrapolate` allows λ outside [0, 1] also where the file does not.

    Raises:
        MullError: what `read_toml`, `Rule` and `Coefficients` refuse; the message names the file and the rule.
    """
    file = read_toml(path, CoefficientsTable)
    with naming(path):
        return file.coefficients(extrapolate=extrapolate)
