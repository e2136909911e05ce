"""mull's own settings of a merge, and the TOML file that has them.

    method = "ties"
    base = "path/to/base"
    donor = "base"                      # or the number of a model, from 1
    dtype = "bfloat16"                  # default: the donor's

    [[model]]                           # or instruct = "…" and thinking = "…" at the top
    name = "path/to/model"

    [parameters]                        # of the method, as `mull methods` lists them
    density = 0.2
    weights = [0.5, 0.5]

    [coefficients]                      # λ or α: as in a file of --coefficients
    default = 0.5

    [[coefficients.rule]]
    layers = "0-11"
    lambda = 0.3

    [[varying]]                         # a parameter that differs from tensor to tensor: one table for each model
    parameter = "density"
    default = 0.3

    [[varying.rule]]
    modules = "ffn"
    value = 0.5

`chat_template` at the top is written beside the weights instead of the donor's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mull.checkpoints.checkpoint import Checkpoint
from mull.checkpoints.pair import Group, Pair
from mull.errors import MullError, naming
from mull.merging.coefficients import Coefficients, Gradient, Rule
from mull.merging.coefficients.rules import format_ranges
from mull.merging.coefficients.selectors import format_value
from mull.merging.coefficients.toml import CoefficientsTable, ValuesTable
from mull.merging.coefficients.varying import Varying
from mull.merging.methods import Method, make
from mull.toml import entry, read_toml


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The checkpoints of a merge, as folders or hub ids."""

    models: tuple[str, ...]
    base: str | None = None
    donor: str
    """"base", or the number of a model, from 1; of a pair "instruct" or "thinking"."""
    is_pair: bool = False

    def open(self) -> Group:
        """The checkpoints, opened. Raises MullError if one cannot be, or there is no such donor."""
        if self.is_pair:
            return Pair.open(*self.models, self.base, donor=self.donor)  # type: ignore[arg-type]
        opened: dict[str, Checkpoint] = {}
        for name in (*self.models, *([self.base] if self.base else [])):
            opened.setdefault(name, Checkpoint.open(name))
        if self.donor != "base" and not (self.donor.isdecimal() and 1 <= int(self.donor) <= len(self.models)):
            last = len(self.models)
            raise MullError(
                f"there is no donor {self.donor!r}", f"it is base, or the number of a model, from 1 to {last}"
            )
        donor = "base" if self.donor == "base" else int(self.donor) - 1
        return Group([opened[name] for name in self.models], opened[self.base] if self.base else None, donor=donor)


@dataclass(frozen=True, kw_only=True)
class MergeSettings:
    """Everything that decides what a merge makes of which checkpoints."""

    sources: Sources
    method: Method
    coefficients: Coefficients
    varying: Varying = field(default_factory=Varying)
    dtype: str | None = None
    chat_template: str | None = None
    """Instead of the donor's, if given."""
    notes: tuple[str, ...] = ()
    """What another tool would do differently by the same recipe."""

    def settings(self, group: Group) -> MergeSettings:
        """Itself: see `Recipe`."""
        return self


class Recipe(Protocol):
    """A file that says how to merge."""

    @property
    def sources(self) -> Sources: ...

    def settings(self, group: Group) -> MergeSettings:
        """The settings for its checkpoints, opened and checked."""
        ...


@dataclass(kw_only=True)
class _Model:
    name: str = entry('name = "path/to/model"')


@dataclass(kw_only=True)
class _Varying(ValuesTable):
    parameter: str = entry('parameter = "density"')


@dataclass(kw_only=True)
class _File:
    method: str = entry('method = "ties"')
    instruct: str | None = entry('instruct = "path/to/model"', default=None)
    thinking: str | None = entry('thinking = "path/to/model"', default=None)
    base: str | None = entry('base = "path/to/model"', default=None)
    donor: str | int | None = entry("donor = 1, or the word base", default=None)
    dtype: str | None = entry('dtype = "bfloat16"', default=None)
    chat_template: str | None = entry('chat_template = "{{ messages[0].content }}"', default=None)
    model: tuple[_Model, ...] = entry("[[model]] above each model", default=())
    parameters: dict | None = entry("[parameters] above the method's parameters", default=None)
    coefficients: CoefficientsTable | None = entry("[coefficients] above default = 0.5", default=None)
    varying: tuple[_Varying, ...] = entry("[[varying]] above each parameter of a model", default=())


def read_settings_file(path: Path) -> MergeSettings:
    """The settings in a TOML file. Raises MullError for what they cannot be; the message names the file and the key."""
    file = read_toml(path, _File)
    with naming(path):
        ends = [file.instruct, file.thinking]
        is_pair = not file.model
        if is_pair and None in ends:
            raise MullError("no models", "write [[model]] above each name, or instruct and thinking at the top")
        if not is_pair and ends != [None, None]:
            raise MullError("instruct and thinking stand in place of [[model]]", "give one or the other")
        models = tuple(ends) if is_pair else tuple(each.name for each in file.model)
        donor = str(file.donor or ("thinking" if is_pair else len(models)))
        if is_pair and donor not in ("instruct", "thinking"):
            raise MullError(f"there is no donor {donor!r}", "it is instruct or thinking")
        with naming("parameters"):
            method = make(file.method, file.parameters)
        with naming("coefficients"):
            coefficients = _coefficients(file.coefficients, method)
        found: dict[str, list[Coefficients]] = {}
        for each in file.varying:
            with naming(f"varying {each.parameter}"):
                found.setdefault(each.parameter, []).append(each.coefficients())
        return MergeSettings(
            sources=Sources(models=models, base=file.base, donor=donor, is_pair=is_pair),  # type: ignore[arg-type]
            method=method,
            coefficients=coefficients,
            varying=Varying(tuple((name, tuple(values)) for name, values in found.items())),
            dtype=file.dtype,
            chat_template=file.chat_template,
        )


def _coefficients(table: CoefficientsTable | None, method: Method) -> Coefficients:
    if method.takes is None:
        if table is not None:
            raise MullError(f"the method {method.name} has no coefficient to vary", "leave the table out")
        return Coefficients.scalar(1.0)
    if table is not None:
        return table.coefficients(extrapolate=method.takes == "alpha")
    if method.default is None:
        raise MullError("the table is missing", "write [coefficients], and default = 0.5 below it")
    return Coefficients.scalar(method.default, extrapolate=True)


def format_settings(settings: MergeSettings) -> str:
    """The settings as TOML, from which `read_settings_file` makes the same."""
    sources, top = settings.sources, {"method": settings.method.name}
    if sources.is_pair:
        top |= {"instruct": sources.models[0], "thinking": sources.models[1]}
    top |= {"base": sources.base, "donor": sources.donor, "dtype": settings.dtype}
    lines = _lines(top | {"chat_template": settings.chat_template})
    for name in () if sources.is_pair else sources.models:
        lines += ["", "[[model]]", *_lines({"name": name})]
    parameters = _lines(settings.method.to_json()["parameters"])
    lines += ["", "[parameters]", *parameters] if parameters else []
    if settings.method.takes is not None:
        lines += ["", "[coefficients]", *_table(settings.coefficients, "coefficients", "lambda")]
    for parameter, values in settings.varying.parameters:
        for each in values:
            lines += ["", "[[varying]]", *_lines({"parameter": parameter}), *_table(each, "varying", "value")]
    return "\n".join(lines) + "\n"


def _table(coefficients: Coefficients, name: str, key: str) -> Iterable[str]:
    extrapolate = {"extrapolate": True} if coefficients.extrapolate and key == "lambda" else {}
    yield from _lines({"default": coefficients.default, **extrapolate})
    for rule in coefficients.rules:
        yield from ("", f"[[{name}.rule]]")
        yield from _lines(_rule(rule, key))


def _rule(rule: Rule, key: str) -> dict[str, Any]:
    return {
        key: format_value(rule.lam) if isinstance(rule.lam, Gradient) else rule.lam,
        "layers": format_ranges(rule.ranges) or None,
        "modules": rule.modules,
        "name": rule.name,
    }


def _lines(values: dict[str, Any]) -> list[str]:
    """Texts, numbers and lists are written alike in JSON and TOML, but for one control character."""
    written = {key: json.dumps(value, ensure_ascii=False) for key, value in values.items() if value is not None}
    return [f"{key} = {text}".replace("\x7f", "\\u007f") for key, text in written.items()]
