"""Makes models, methods and coefficients from the options of `mull merge` and `mull compare`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mull.cli.options.coefficients import read_coefficients
from mull.errors import MullError, naming
from mull.merging.coefficients import Coefficients, parse_lambdas
from mull.merging.coefficients.presets import preset as find_preset
from mull.merging.coefficients.recipe import Recipe
from mull.merging.coefficients.rules import shortest
from mull.merging.methods import Method, make
from mull.merging.recipes import Sources
from mull.runs.settings import Setting
from mull.words import counted, listed


def read_sources(
    instruct: str | None, thinking: str | None, models: list[str], base: str | None, donor: str
) -> tuple[Sources, tuple[float, ...] | None]:
    """The models to merge, and their weights if --model gives them.

    Raises:
        MullError: neither a pair nor several models, weights for only some models, or an unknown donor.
    """

    if not all(name != "" for name in (instruct, thinking, base)):
        raise MullError("an empty name is no model", "give a folder or a hub id")
    if not models:
        if instruct is None or thinking is None:
            missing = " and ".join(
                name for name, value in (("--instruct", instruct), ("--thinking", thinking)) if value is None
            )
            raise MullError(f"missing {missing}", "give both, or several --model")
        if donor not in ("instruct", "thinking"):
            raise MullError(f"there is no donor {donor!r}", "it is instruct or thinking")
        return Sources(models=(instruct, thinking), base=base, donor=donor, is_pair=True), None
    if instruct is not None or thinking is not None:
        raise MullError("--model stands in place of --instruct and --thinking", "give one or the other")
    split = [_weight(text) for text in models]
    weights = [weight for _, weight in split if weight is not None]
    if weights and len(weights) < len(models):
        raise MullError(
            f"{len(weights)} of {counted(len(models), 'model')} have a weight",
            "write MODEL=WEIGHT for all, or for none",
        )
    if donor == "thinking":
        donor = str(len(models))
    if donor == "base" and base is None:
        raise MullError("--donor base without --base", "give one, or the number of a model")
    if donor != "base" and (not donor.isdecimal() or not 1 <= int(donor) <= len(models)):
        raise MullError(f"there is no donor {donor!r}", f"models count from 1 to {len(models)}")
    return Sources(models=tuple(name for name, _ in split), base=base, donor=donor), tuple(weights) or None


def _weight(text: str) -> tuple[str, float | None]:
    name, sign, weight = text.rpartition("=")
    if not sign or Path(text).exists():
        return text, None
    if not name:
        raise MullError(f"{text!r} names no model", "write MODEL=WEIGHT, as in path/to/model=0.5")
    try:
        return name, float(weight)
    except ValueError:
        raise MullError(f"cannot read the weight in {text!r}", "write MODEL=WEIGHT, as in path/to/model=0.5") from None


def read_method(
    name: str, preset: str | None, parameters: list[str], weights: tuple[float, ...] | None
) -> tuple[Method, float | None, str]:
    """The method, its default coefficient, and the note of a preset.

    Raises:
        MullError: an unknown method, preset or parameter, or two options for the same thing.
    """

    values: dict[str, str | float | bool] = {}
    for text in parameters:
        key, sign, value = text.partition("=")
        if not sign:
            raise MullError(f"cannot read the parameter {text!r}", "write NAME=VALUE, as in density=0.2")
        if key.strip() in values:
            raise MullError(f"the parameter {key.strip()} is given twice", "give it once")
        values[key.strip()] = value.strip()
    if weights is not None:
        if "weights" in values:
            raise MullError("the weights are given twice", "give them with --model or with --param, not with both")
        values["weights"] = weights  # type: ignore[assignment]
    if preset is None:
        method = make(name, values)
        return method, method.default, ""
    if name != "mi":
        raise MullError("--preset names its method", "leave --method out")
    found = find_preset(preset)
    method = make(found.method.name, asdict(found.method) | values) if values else found.method
    return method, found.coefficient, found.note


def read_row(text: str, bases: Sequence[str]) -> Setting:
    """The setting of `--method NAME:parameter=value,…` of `mull compare`, under a label that gives the same again.

    Besides the method's own parameters there are lambda or alpha, whichever it takes, and base: one of the roles
    `bases`, of which the first is meant without it.

    Raises:
        MullError: an unknown method, parameter or base, or a coefficient that is missing or not taken.
    """
    with naming(f"--method {text}"):
        name, _, rest = text.partition(":")
        values = _values(rest)
        role = values.pop("base", None)
        number = {key: values.pop(key) for key in ("lambda", "alpha") if key in values}
        method = make(name.strip(), values)
        if any(key != method.takes for key in number):
            raise MullError(f"the method {method.name} takes no {next(iter(number))}", "leave it out")
        lam = _number(number[method.takes]) if method.takes in number else method.default if method.takes else 1.0
        if lam is None:
            raise MullError(f"the method {method.name} needs a λ", f"write {method.name}:lambda=0.5")
        if role is not None and role not in bases:
            has = f"it is {listed(bases, 'or')}" if bases else "give --base or --hybrid"
            raise MullError(f"there is no base {role!r}", has)
        if method.base == "required" and not bases:
            raise MullError(f"the method {method.name} needs a base", "give --base or --hybrid")
        base = role or (bases[0] if method.base == "required" else None)
        recipe = Recipe(Coefficients.scalar(lam, extrapolate=method.takes != "lambda"), method, base=base)
        shown = ({method.takes: shortest(lam)} if method.takes else {}) | values
        shown |= {"base": base} if base is not None and (base != "base" or method.base == "optional") else {}
        label = ",".join(f"{key}={value}" for key, value in shown.items())
        return Setting(f"{method.name}:{label}" if label else method.name, recipe)


def _values(text: str) -> dict[str, str]:
    """The values of "density=0.2,0.5,normalize=no" by name: what has no name belongs to the value before it."""
    values: dict[str, str] = {}
    for part in text.split(",") if text.strip() else ():
        key, sign, value = (each.strip() for each in part.partition("="))
        if sign and key in values:
            raise MullError(f"{key} is given twice", "give it once")
        if not sign and not values:
            raise MullError(f"cannot read {part!r}", "write NAME:parameter=value, as in ties:density=0.2,alpha=0.5")
        if sign:
            values[key] = value
        else:
            values[next(reversed(values))] += f",{key}"
    return values


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise MullError(f"{text!r} is no number", "write one, as in 0.5") from None


def read_settings(
    method: Method,
    default: float | None,
    lam: str | None,
    alpha: float | None,
    *,
    layers: str | None,
    modules: str | None,
    file: Path | None,
    rules: list[str],
    extrapolate: bool,
) -> list[tuple[str, Coefficients]]:
    """(label, coefficients) of each result: one for each λ of --lambda, with λ as its label, else one without label.

    Raises:
        MullError: a coefficient that the method does not take, is missing, or cannot be read.
    """

    takes = method.takes
    for option, value, wanted in (("--lambda", lam, "lambda"), ("--alpha", alpha, "alpha")):
        if value is not None and takes != wanted:
            remedy = {"lambda": "give --lambda", "alpha": "give --alpha", None: "leave it out"}[takes]
            with_weights = " with weights" if takes != method.coefficient else ""
            raise MullError(f"the method {method.name}{with_weights} takes no {option}", remedy)
    if takes is None:
        if layers or modules or file or rules:
            raise MullError(
                f"the method {method.name} has no coefficient to vary", "leave layers, modules and rules out"
            )
        return [("", Coefficients.scalar(1.0))]
    values: list[float | None] = [alpha if alpha is not None else default if file is None else None]
    if takes == "lambda" and lam is not None:
        values = [*parse_lambdas(lam, extrapolate=extrapolate)]
    elif takes == "lambda" and file is None:
        weights = "of more than two models give each a weight, as in --model A=0.5"
        raise MullError("missing --lambda", f"λ = 0 is Instruct (the first model), 1 Thinking (the second); {weights}")
    elif takes == "alpha":
        extrapolate = True
    where: dict[str, Any] = {"layers": layers, "modules": modules, "file": file, "rules": rules}
    return [
        ("" if value is None else shortest(value), read_coefficients(value, extrapolate=extrapolate, **where))
        for value in values
    ]
