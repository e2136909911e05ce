"""What a recipe of mergekit says of each tensor, gathered to mull's settings.

Filters and gradients mean something only for the names and layers of a model, so this needs the checkpoints.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mull.checkpoints.names import layer_of
from mull.checkpoints.pair import Group
from mull.errors import MullError, naming
from mull.merging.coefficients import Coefficients
from mull.merging.coefficients.varying import Varying, coefficients_of
from mull.merging.methods import make
from mull.merging.recipes.methods import Choice, Mapped
from mull.merging.recipes.own import MergeSettings, Sources
from mull.merging.recipes.parameters import Scalar, Settings


@dataclass(frozen=True)
class Part:
    """The layers that one set of parameters is for: all of them, or a slice."""

    layers: tuple[int, int] | None
    """From the first to the one after the last."""
    own: dict[str, Settings]
    """By model."""
    shared: Settings


@dataclass(frozen=True)
class MergekitRecipe:
    """A recipe of which the checkpoints are known."""

    path: Path
    mapped: Mapped
    sources: Sources
    others: tuple[str, ...]
    """The models besides a base of task vectors, in the recipe's order."""
    parts: tuple[Part, ...]
    top: Settings
    dtype: str | None
    chat_template: str | None
    notes: tuple[str, ...]

    def settings(self, group: Group) -> MergeSettings:
        """The settings for these checkpoints, opened and checked.

        Raises:
            MullError: slices that are not the whole model in order, a parameter that is missing, or what mull does not
                do.
        """
        with naming(self.path):
            return self._settings(group)

    def _settings(self, group: Group) -> MergeSettings:
        names = [tensor.name for tensor in group.tensors]
        layers = max((layer for layer in map(layer_of, names) if layer is not None), default=-1) + 1
        _check_slices(self.parts, layers)
        notes: set[str] = set()
        choices = {}
        for name in names:
            layer = layer_of(name)
            values = _AtTensor(self, name, *_place(self.parts, layer, layers, name))
            choices[name] = self.mapped.choose(values, notes)
        name = self.mapped.name
        if self.mapped.base and len(self.others) == 1:
            name, choices = "mi", {tensor: _of_one(choice) for tensor, choice in choices.items()}
        coefficients, parameters, varying = _gathered(name, choices)
        method = make(name, parameters)
        chat_template = self.chat_template
        if chat_template == "auto":
            found = Counter(each.tokenizer.chat_template for each in group.by_role.values())
            found.pop(None, None)
            chat_template = found.most_common(1)[0][0] if found else None
            if chat_template == group.donor.tokenizer.chat_template:
                chat_template = None
        return MergeSettings(
            sources=self.sources,
            method=method,
            coefficients=coefficients if method.takes else Coefficients.scalar(1.0),
            varying=varying,
            dtype=self.dtype,
            chat_template=chat_template,
            notes=(*self.notes, *sorted(notes)),
        )


@dataclass(frozen=True)
class _AtTensor:
    """The recipe's parameters at one tensor: `Values` for the method."""

    recipe: MergekitRecipe
    name: str
    part: Part
    place: float

    def number(self, name: str, default: float | None = None) -> float:
        return float(self._found(name, [self.part.shared, self.recipe.top], default, ""))

    def flag(self, name: str, default: bool) -> bool:
        return bool(self._found(name, [self.part.shared, self.recipe.top], default, ""))

    def each(self, name: str, default: float | None = None) -> list[float]:
        shared = [self.part.shared, self.recipe.top]
        return [
            float(self._found(name, [self.part.own.get(model, {}), *shared], default, f" of {model}"))
            for model in self.recipe.others
        ]

    def _found(self, name: str, scopes: Sequence[Settings], default: Scalar | None, whose: str) -> Scalar:
        for scope in scopes:
            value = scope[name].at(self.name, self.place) if name in scope else None
            if value is not None:
                return value
        if default is None:
            raise MullError(
                f"there is no {name}{whose} for {self.name}", f"write {name}: and a number under parameters:"
            )
        return default


def _check_slices(parts: Sequence[Part], layers: int) -> None:
    after = 0
    for part in parts:
        if part.layers is None:
            return
        first, end = part.layers
        if first != after or end > layers:
            raise MullError(
                f"slices that are not the whole model in order (layers {first} to {end - 1} after {after} of {layers})",
                "let them follow each other from 0 to the last layer; mull neither repeats nor leaves out layers",
            )
        after = end
    if after != layers:
        raise MullError(f"slices of {after} of the {layers} layers", "let them reach the last layer")


def _place(parts: Sequence[Part], layer: int | None, layers: int, name: str) -> tuple[Part, float]:
    """The part that a tensor belongs to, and where in it, from 0 to 1.

    Outside the layers mergekit takes the beginning of the first slice for what comes before the layers, and that of the
    last slice for what comes after them.
    """
    if layer is None:
        return (parts[-1] if _comes_after(name) else parts[0]), 0.0
    part = next(part for part in parts if part.layers is None or part.layers[0] <= layer < part.layers[1])
    first, end = part.layers or (0, layers)
    return part, (layer - first) / (end - first - 1) if end - first > 1 else 1.0


def _comes_after(name: str) -> bool:
    return "embed" not in name and "wte" not in name and "wpe" not in name


def _of_one(choice: Choice) -> Choice:
    """Task arithmetic of one model, b + α·w·δ, as the interpolation from b to the model with λ = α·w."""
    return Choice(choice.coefficient * choice.parameters["weights"][0], {})


def _gathered(name: str, choices: dict[str, Choice]) -> tuple[Coefficients, dict[str, Any], Varying]:
    """Coefficients, the parameters that all tensors share (or the first one has), and those that differ."""
    found = coefficients_of({tensor: choice.coefficient for tensor, choice in choices.items()})
    if name not in ("mi", "slerp", "nuslerp"):
        found = replace(found, extrapolate=True)  # α has no ends
    shared: dict[str, Any] = {}
    varying: list[tuple[str, tuple[Coefficients, ...]]] = []
    for key in next(iter(choices.values())).parameters:
        values = {tensor: choice.parameters[key] for tensor, choice in choices.items()}
        first = next(iter(values.values()))
        if len(set(values.values())) > 1:
            if not isinstance(first, tuple):
                raise MullError(
                    f"{key} differs between tensors", "give it one value; mull takes it for the whole model"
                )
            columns = [{tensor: value[m] for tensor, value in values.items()} for m in range(len(first))]
            each = (replace(coefficients_of(column), extrapolate=True) for column in columns)
            varying.append((key, tuple(each)))
        shared[key] = first[0] if isinstance(first, tuple) and key != "weights" and len(set(first)) == 1 else first
    return found, shared, Varying(tuple(varying))
