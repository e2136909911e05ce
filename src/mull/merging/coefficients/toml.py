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
from mull.merging.coefficients import Coefficients
from mull.merging.coefficients.rules import Gradient
from mull.merging.coefficients.selectors import make_rule, parse_value
from mull.toml import entry, read_toml


@dataclass(kw_only=True)
class _Rule:
    lambda_: float | tuple[float, ...] | str = entry('lambda = 0.5, a list of λ, or a gradient as in "0.2->0.9"')
    layers: int | str | None = entry('layers = "12-35"', default=None)
    modules: str | tuple[str, ...] | None = entry('modules = ["ffn", "norm"]', default=None)
    name: str | None = entry('name = "model.layers.*.mlp.*"', default=None)

    def __post_init__(self) -> None:
        lam = parse_value(self.lambda_) if isinstance(self.lambda_, str) else self.lambda_
        if isinstance(self.lambda_, str) and not isinstance(lam, Gradient):
            what = f"lambda = {self.lambda_!r} is text"
            raise MullError(what, "write numbers without quotes; only a gradient has them")
        modules = ",".join(self.modules) if isinstance(self.modules, tuple) else self.modules
        self.rule = make_rule(lam, None if self.layers is None else str(self.layers), modules, self.name)


@dataclass(kw_only=True)
class _File:
    default: float = entry("default = 0.8, the λ where no rule matches")
    rule: tuple[_Rule, ...] = entry("[[rule]] above each rule", default=())
    extrapolate: bool = entry("extrapolate = true", default=False)


def load_coefficients(path: Path, *, extrapolate: bool = False) -> Coefficients:
    """Coefficients from a TOML file; `extrapolate` allows λ outside [0, 1] also where the file does not.

    Raises:
        MullError: what `read_toml`, `Rule` and `Coefficients` refuse; the message names the file and the rule.
    """
    file = read_toml(path, _File)
    with naming(path):
        return Coefficients(file.default, tuple(each.rule for each in file.rule), file.extrapolate or extrapolate)
