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

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mull.errors import MullError, nearest
from mull.merging.coefficients import Coefficients, naming_rule
from mull.merging.coefficients.rules import Gradient, Rule
from mull.merging.coefficients.selectors import make_rule, parse_value


def load_coefficients(path: Path, *, extrapolate: bool = False) -> Coefficients:
    """Coefficients from a TOML file; `extrapolate` allows λ outside [0, 1] also where the file does not.

    Raises:
        MullError: no TOML, an unknown key, a value of the wrong type, or what `Rule` and `Coefficients` refuse; the
            message names the file and the rule.
        OSError: the file cannot be read.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # TOML's and Unicode's errors
        raise MullError(f"{path} is no TOML file: {error}") from None
    try:
        _check_keys(data, ("default", "rule", "extrapolate"))
        if "default" not in data:
            raise MullError("default is missing", "give the λ where no rule matches, as in default = 0.8")
        tables, allowed = data.get("rule", []), data.get("extrapolate", False)
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise MullError("rule must be an array of tables", "write [[rule]] above each rule")
        if not isinstance(allowed, bool):
            raise MullError(f"extrapolate must be true or false, got {allowed!r}")
        rules = tuple(_rule(table, number) for number, table in enumerate(tables, start=1))
        return Coefficients(_number(data["default"], "default"), rules, allowed or extrapolate)
    except MullError as error:
        raise MullError(f"{path}: {error.what}", error.remedy) from None


def _rule(table: dict[str, Any], number: int) -> Rule:
    with naming_rule(number):
        _check_keys(table, ("lambda", "layers", "modules", "name"))
        if "lambda" not in table:
            raise MullError("lambda is missing", 'give a λ, a list of them, or a gradient as in "0.2->0.9"')
        layers = table.get("layers")
        modules = table.get("modules")
        if isinstance(layers, int) and not isinstance(layers, bool):
            layers = str(layers)
        if isinstance(modules, list) and all(isinstance(kind, str) for kind in modules):
            modules = ",".join(modules)
        return make_rule(
            _value(table["lambda"]),
            _text(layers, "layers", 'layers = "12-35"'),
            _text(modules, "modules", 'modules = ["ffn", "norm"]'),
            _text(table.get("name"), "name", 'name = "model.layers.*.mlp.*"'),
        )


def _value(value: Any) -> float | tuple[float, ...] | Gradient:
    if isinstance(value, list):
        return tuple(_number(lam, "lambda") for lam in value)
    if isinstance(value, str):
        gradient = parse_value(value)
        if not isinstance(gradient, Gradient):
            raise MullError(f"lambda = {value!r} is text", "write numbers without quotes; only a gradient has them")
        return gradient
    return _number(value, "lambda")


def _number(value: Any, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MullError(f"{key} must be a number, got {value!r}")
    return value


def _text(value: Any, key: str, example: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise MullError(f"cannot read {key} = {value!r}", f"write {example}")


def _check_keys(table: dict[str, Any], known: Iterable[str]) -> None:
    for key in table:
        if key not in known:
            raise MullError(f"unknown key {key!r}", nearest(key, known))
