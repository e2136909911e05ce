"""Reads mergekit's recipes (YAML, version 0.1): the method, the checkpoints and where each parameter is set.

What becomes of each tensor is found when the checkpoints are known (tensors.py). What mull does otherwise is noted, and
what it does not do is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mull.errors import MullError, naming, nearest
from mull.merging.recipes.methods import METHODS, NOT_HERE, Mapped
from mull.merging.recipes.own import Sources
from mull.merging.recipes.parameters import Settings, parse_settings
from mull.merging.recipes.tensors import MergekitRecipe, Part
from mull.merging.recipes.yaml import read_yaml
from mull.toml import entry, from_table
from mull.words import counted

_BY_NAME = {
    "modules": ("modules merges the parts of a model one by one", "write models, for the whole model"),
    "experts": (
        "experts makes a mixture of experts of whole models (mergekit-moe)",
        "mull merges tensors of one shape",
    ),
    "out_path": ("out_path says where the model goes", "leave it out, and give --out"),
    "gate_mode": ("gate_mode belongs to a mixture of experts (mergekit-moe)", "mull merges tensors of one shape"),
}
_OTHERS_SAY = {"model": "models", "method": "merge_method", "base": "base_model", "outdtype": "out_dtype"}


@dataclass(kw_only=True)
class _Model:
    model: str = entry("model: path/to/model")
    parameters: dict | None = entry("parameters:, and weight: 0.5 below it", default=None)


@dataclass(kw_only=True)
class _Source(_Model):
    layer_range: tuple[int, ...] = entry("layer_range: [0, 32]")


@dataclass(kw_only=True)
class _Slice:
    sources: tuple[_Source, ...] = entry("sources:, and - model: path/to/model below it")
    parameters: dict | None = entry("parameters:, and t: 0.5 below it", default=None)


@dataclass(kw_only=True)
class _File:
    merge_method: str = entry("merge_method: ties")
    models: tuple[_Model, ...] = entry("models:, and - model: path/to/model below it", default=())
    slices: tuple[_Slice, ...] = entry("slices:, and - sources: below it", default=())
    base_model: str | None = entry("base_model: path/to/model", default=None)
    parameters: dict | None = entry("parameters:, and t: 0.5 below it", default=None)
    dtype: str | None = entry("dtype: bfloat16", default=None)
    out_dtype: str | None = entry("out_dtype: bfloat16", default=None)
    tokenizer_source: str | None = entry("tokenizer_source: base", default=None)
    tokenizer: dict | None = entry("tokenizer:, and source: base below it", default=None)
    chat_template: str | None = entry("chat_template: auto", default=None)


def read_mergekit(path: Path) -> MergekitRecipe:
    """The recipe in a YAML file of mergekit 0.1.

    Raises:
        MullError: what `read_yaml` refuses, an unknown key or parameter, or what mull does not do.
    """
    table = read_yaml(path)
    with naming(path):
        for key in table:
            if key in _BY_NAME:
                raise MullError(*_BY_NAME[key])
        known = set(_File.__dataclass_fields__)
        for key in table:
            if key not in known:
                raise MullError(f"unknown key {key!r}", nearest(key, known, _OTHERS_SAY))
        return _recipe(path, from_table(table, _File))


def _recipe(path: Path, file: _File) -> MergekitRecipe:
    name = file.merge_method
    if name in NOT_HERE:
        raise MullError(f"mull has no method {name}", NOT_HERE[name])
    if name not in METHODS:
        raise MullError(f"unknown merge_method {name!r}", nearest(name, METHODS))
    mapped, notes = METHODS[name], []
    parts = _parts(file)
    top = _settings(file.parameters, mapped, name, notes)
    for part in parts:
        for settings in (part.shared, *part.own.values()):
            notes += _without_effect(settings, mapped, name)
    models = list(parts[0].own)
    others, base = _models(models, file.base_model, mapped, name)
    if any("int8_mask" in each for part in parts for each in (top, part.shared, *part.own.values())):
        notes.append("int8_mask saves mergekit memory; it changes no result")
    if file.dtype != "float32":
        computes = f"mergekit computes in {file.dtype or 'the dtype of the models'}"
        notes.append(f"{computes}, mull in float64, rounded at the end only")
    merged = others
    if base is not None and len(others) == 1:  # an interpolation between the base and the model
        merged, base = [base, *others], None
    sources = Sources(models=tuple(merged), base=base, donor=_donor(file, merged, base))
    return MergekitRecipe(
        path, mapped, sources, tuple(others), parts, top, file.out_dtype or file.dtype,
        _chat_template(file.chat_template), tuple(dict.fromkeys(notes)),
    )  # fmt: skip


def _parts(file: _File) -> tuple[Part, ...]:
    if bool(file.models) == bool(file.slices):
        raise MullError("a recipe has either models or slices", "write one of the two")
    if file.models:
        return (Part(None, _by_model(file.models), {}),)
    found = []
    for number, each in enumerate(file.slices, start=1):
        with naming(f"slice {number}"):
            ranges = {source.layer_range for source in each.sources}
            if len(ranges) != 1:
                raise MullError("different layers of the models", "give all sources one layer_range; mull stacks none")
            (layers,) = ranges
            if len(layers) != 2 or not 0 <= layers[0] < layers[1]:
                raise MullError(f"layer_range cannot be {list(layers)}", "write [first, one after the last]")
            found.append(Part((layers[0], layers[1]), _by_model(each.sources), parse_settings(each.parameters or {})))
    if any(list(part.own) != list(found[0].own) for part in found):
        raise MullError(
            "slices of different models, which mergekit stacks (a passthrough or frankenmerge)",
            "give every slice the same sources in the same order; mull merges whole models",
        )
    return tuple(found)


def _by_model(models: Iterable[_Model]) -> dict[str, Settings]:
    found: dict[str, Settings] = {}
    for each in models:
        if each.model in found:
            raise MullError(f"{each.model} is named twice", "name each model once")
        if "+" in each.model and not Path(each.model).exists():
            raise MullError(f"{each.model} adds an adapter to a model", "merge the adapter into it first")
        with naming(each.model):
            found[each.model] = parse_settings(each.parameters or {})
    return found


def _settings(table: dict[str, Any] | None, mapped: Mapped, name: str, notes: list[str]) -> Settings:
    settings = parse_settings(table or {})
    notes += _without_effect(settings, mapped, name)
    return settings


def _without_effect(settings: Settings, mapped: Mapped, name: str) -> list[str]:
    return [f"{each} has no effect on {name}" for each in settings if each not in mapped.takes and each != "int8_mask"]


def _models(models: list[str], base: str | None, mapped: Mapped, name: str) -> tuple[list[str], str | None]:
    """The models to be merged, in mull's order, and the base of their task vectors."""
    if name == "slerp":
        if base is None:
            raise MullError("slerp without base_model", "name the model at t = 0 as base_model")
        others = [base, *(each for each in models if each != base)]
    elif mapped.base or (name == "nuslerp" and base is not None):
        if base is None:
            raise MullError(f"{name} without base_model", "name the checkpoint that the models were trained from")
        others = [each for each in models if each != base]
        if len(others) < (1 if name == "task_arithmetic" else 2) or (name == "nuslerp" and len(others) != 2):
            raise MullError(
                f"{counted(len(others), 'model')} besides the base for {name}", "give two models besides the base"
            )
        return others, base
    else:  # mergekit takes a base that is not among the models for one more of them
        others = models if base is None or base in models else [*models, base]
    if len(others) < 2 or (name in ("slerp", "nuslerp") and len(others) > 2):
        raise MullError(
            f"{counted(len(others), 'model')} for {name}", "give two models" + (" or more" if len(others) < 2 else "")
        )
    return others, None


def _donor(file: _File, models: Sequence[str], base: str | None) -> str:
    """Where config, tokenizer and template come from: mergekit's base, else its first model, unless the recipe says."""
    source = file.tokenizer_source
    if file.tokenizer is not None:
        if source is not None:
            raise MullError("tokenizer and tokenizer_source say the same", "give one of them")
        for key in file.tokenizer:
            if key != "source":
                raise MullError(f"tokenizer.{key} changes the vocabulary, which mull does not", "leave it out")
        source = file.tokenizer.get("source", "union")
        if not isinstance(source, str):
            raise MullError(f"tokenizer.source must be a text, got {source!r}", "write base or a model's name")
    if source == "union":
        raise MullError(
            "tokenizer_source union joins vocabularies, which mull does not", "write base or a model's name"
        )
    if source is None or source == "base":
        if source == "base" and file.base_model is None:
            raise MullError("tokenizer_source base without base_model", "name a model instead")
        source = file.base_model or next(iter(_parts(file)[0].own))
    if source == base:
        return "base"
    if source not in models:
        raise MullError(f"tokenizer_source {source} is none of the models", "name one of them, or base")
    return str(list(models).index(source) + 1)


def _chat_template(text: str | None) -> str | None:
    if text is None or text == "auto" or "{" in text:
        return text
    raise MullError(f"the chat template {text!r} is one of mergekit's own", "write auto, or the template itself")
