"""`Varying`: parameters of a method that differ from tensor to tensor, each model with a value of its own."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from mull.checkpoints.names import MODULE_KINDS, layer_of, module_kind
from mull.errors import MullError, naming, nearest
from mull.merging.coefficients.mapping import Coefficients
from mull.merging.coefficients.rules import Rule, as_ranges, canonical
from mull.merging.methods import Method


@dataclass(frozen=True)
class Varying:
    """For each parameter that differs between tensors, the values of each model, found as λ is found: by rules."""

    parameters: tuple[tuple[str, tuple[Coefficients, ...]], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters, as in ("density", "weights")."""
        return tuple(name for name, _ in self.parameters)

    def methods(self, method: Method, names: Iterable[str], models: int) -> dict[str, Method]:
        """`method` with its own parameters for each tensor.

        Raises:
            MullError: the method has no such parameter, or a value that it does not allow.
        """
        names = list(names)
        if "density" in self.names and getattr(method, "trim", "tensor") != "tensor":
            raise MullError("trim model takes one density for all tensors", "leave trim out")
        known = [each.name for each in fields(method) if "tuple" in str(each.type) or "Share" in str(each.type)]
        found: dict[str, list[dict[str, float]]] = {}
        for parameter, values in self.parameters:
            if parameter not in known:
                has = nearest(parameter, known) if known else "it has none"
                raise MullError(f"the method {method.name} has no parameter {parameter!r} for each model", has)
            if len(values) != models:
                raise MullError(f"{parameter} is given for {len(values)} of {models} models", "give it for all")
            with naming(parameter):
                found[parameter] = [each.resolve(names) for each in values]
        made: dict[Any, Method] = {}
        result = {}
        for name in names:
            own = {key: tuple(values[name] for values in columns) for key, columns in found.items()}
            if tuple(own.values()) not in made:
                with naming(name):
                    made[tuple(own.values())] = replace(method, **own)
            result[name] = made[tuple(own.values())]
        return result

    def to_json(self) -> dict[str, Any]:
        return {name: [each.to_json() for each in values] for name, values in self.parameters}


def coefficients_of(values: Mapping[str, float]) -> Coefficients:
    """Coefficients that give each parameter its value in `values`, which has all of the model's, in few rules.

    A kind of module gets one rule if one number, or one number for each layer, says all of it. Otherwise its
    parameters get rules by name, one for those that differ in numbers only.
    """
    default = Counter(values.values()).most_common(1)[0][0]
    layers = max((layer for layer in map(layer_of, values) if layer is not None), default=-1) + 1
    rules: list[Rule] = []
    for kind in MODULE_KINDS:
        names = [name for name in values if module_kind(name) == kind]
        if all(values[name] == default for name in names):
            continue
        whole = _rule({name: values[name] for name in names}, layers, modules=(kind,))
        rules += [whole] if whole else _by_name({name: values[name] for name in names}, default, layers)
    return Coefficients(default, tuple(rules), extrapolate=not all(0 <= value <= 1 for value in values.values()))


def _by_name(values: dict[str, float], default: float, layers: int) -> list[Rule]:
    shapes: dict[str, dict[str, float]] = {}
    for name, value in values.items():
        shapes.setdefault(r"\d+".join(re.escape(part) for part in re.split(r"\d+", name)), {})[name] = value
    rules: list[Rule] = []
    for shape, own in shapes.items():
        if set(own.values()) == {default}:
            continue
        whole = _rule(own, layers, name="re:" + shape)
        rules += [whole] if whole else _by_value(own, default)
    return rules


def _by_value(values: dict[str, float], default: float) -> list[Rule]:
    """One rule for each value, not for each name: a model may have tens of thousands of experts' parameters."""
    names: dict[float, list[str]] = {}
    for name, value in values.items():
        names.setdefault(value, []).append(re.escape(name))
    return [Rule(value, name="re:" + "|".join(own)) for value, own in names.items() if value != default]


def _rule(values: dict[str, float], layers: int, **selector: Any) -> Rule | None:
    """One rule for all of `values`: a number, or a number for each layer; None if there is none."""
    if len(set(values.values())) == 1:
        return Rule(next(iter(values.values())), **selector)
    by_layer: dict[int | None, set[float]] = {}
    for name, value in values.items():
        by_layer.setdefault(layer_of(name), set()).add(value)
    if None in by_layer or any(len(found) > 1 for found in by_layer.values()):
        return None
    present = sorted(layer for layer in by_layer if layer is not None)
    lams = tuple(value for layer in present for value in by_layer[layer])
    return Rule(lams, None if len(present) == layers else canonical(as_ranges(present)), **selector)
