"""`Rule`: selects parameters by name and says which λ they get. Knows names, not tensors."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property
from numbers import Real
from typing import cast

from mull.checkpoints.names import MODULE_KINDS, MODULE_PARTS, OTHERS_SAY, layer_of, module_kinds
from mull.errors import MullError, nearest
from mull.words import counted

SELECTORS: tuple[str, ...] = (*MODULE_KINDS, *MODULE_PARTS)
"""The values that `modules` of a rule may contain."""

Range = tuple[int, int]
Layers = Range | tuple[Range, ...]
"""Inclusive layer ranges: one as a plain pair, several as a tuple of pairs."""


@dataclass(frozen=True)
class Gradient:
    """λ that changes linearly with the layer index, from the first layer that a rule selects to the last one."""

    first: float
    last: float

    def at(self, layer: int, span: Range) -> float:
        """λ of `layer`: exactly `first` at layer `span[0]` and exactly `last` at layer `span[1]`."""
        low, high = span
        if layer == low:
            return float(self.first)
        if layer == high:
            return float(self.last)
        share = (layer - low) / (high - low)
        # Rounded, so that 0.2→0.9 over eight layers gives 0.3, not 0.30000000000000004; within the ends.
        lam = round(self.first * (1 - share) + self.last * share, 12)
        return float(min(max(lam, min(self.first, self.last)), max(self.first, self.last)))

    def __str__(self) -> str:
        return f"{shortest(self.first)}→{shortest(self.last)}"


@dataclass(frozen=True)
class Rule:
    """λ for the parameters that match all given selectors: layers, module kinds, a name pattern.

    Raises:
        MullError: a selector that can match nothing, an unknown kind of module, an unreadable pattern.
    """

    lam: float | tuple[float, ...] | Gradient
    """One λ, or one for each of `layers` in order (all layers of the model if None), or a gradient over these layers.
    The last two do not match parameters outside the layers."""
    layers: Layers | None = None
    """Counted from 0; None = all parameters, also those outside the layers."""
    modules: tuple[str, ...] | None = None
    """Kinds or parts (`SELECTORS`), of which a parameter must have at least one."""
    name: str | None = None
    """A shell glob (`*` also matches dots), or `re:` and a regular expression. Either must match the whole name."""

    def __post_init__(self) -> None:
        if () in (self.modules, self.layers, self.lam):
            raise MullError(
                "a rule without layers, module kinds or values matches nothing", "known: " + ", ".join(SELECTORS)
            )
        if not all(isinstance(lam, Real) and not isinstance(lam, bool) for lam in self.values):
            raise MullError(
                f"the λ of a rule cannot be {self.lam!r}", "give a number, a tuple of numbers or a Gradient"
            )
        for kind in self.modules or ():
            if kind not in SELECTORS:
                raise MullError(f"unknown module kind {kind!r}", nearest(kind, SELECTORS, OTHERS_SAY))
        if self.layers is not None:
            object.__setattr__(self, "layers", canonical(self.ranges))
        if self.name is not None:
            _ = self._fits  # compiles the pattern, which raises if it is wrong

    @property
    def values(self) -> tuple[float, ...]:
        """Every λ in the rule."""
        if isinstance(self.lam, Gradient):
            return (self.lam.first, self.lam.last)
        return self.lam if isinstance(self.lam, tuple) else (self.lam,)

    @property
    def is_scalar(self) -> bool:
        return not isinstance(self.lam, tuple | Gradient)

    @property
    def ranges(self) -> tuple[Range, ...]:
        """The layer ranges, ascending and not overlapping; empty if the rule has none."""
        if not self.layers:
            return ()
        return cast("tuple[Range, ...]", (self.layers,) if isinstance(self.layers[0], int) else self.layers)

    @cached_property
    def _fits(self) -> Callable[[str], object]:
        name = self.name or ""
        if not name.isprintable() or " " in name or not name.removeprefix("re:"):
            raise MullError(
                f"the pattern {name!r} is no parameter's name", "write a glob without spaces, as in *.mlp.*"
            )
        try:
            return re.compile(name[3:] if name.startswith("re:") else fnmatch.translate(name)).fullmatch
        except re.error as error:
            raise MullError(f"{name!r} is no regular expression: {error}", "check its brackets and escapes") from None

    def matches(self, name: str) -> bool:
        """Whether every selector picks the parameter."""
        if self.name is not None and not self._fits(name):
            return False
        if self.layers or not self.is_scalar:
            layer = layer_of(name)
            if layer is None or (self.layers and not any(low <= layer <= high for low, high in self.ranges)):
                return False
        return self.modules is None or not set(self.modules).isdisjoint(module_kinds(name))

    def apply(self, names: Sequence[str], layers: int) -> dict[str, float]:
        """λ of each parameter that the rule matches. `names`: all of the model's; `layers`: its number of layers.

        Raises:
            MullError: the rule names layers that the model does not have, its number of values is not the number of
                layers, or it matches no parameter.
        """
        if self.layers and self.ranges[-1][1] >= layers:
            raise MullError(
                f"{self._where} reach beyond the model, which has {counted(layers, 'layer')}",
                f"layers count from 0 to {layers - 1}" if layers > 1 else "its one layer is 0",
            )
        matched = [name for name in names if self.matches(name)]
        if not isinstance(self.lam, tuple | Gradient):
            lams = dict.fromkeys(matched, float(self.lam))
        else:
            layer = {name: cast(int, layer_of(name)) for name in matched}
            by_layer = self._by_layer(sorted(set(layer.values())), layers)
            lams = {name: by_layer[layer[name]] for name in matched}
        if not lams:
            raise MullError(f"no parameter matches {self}", _hint(self, names))
        return lams

    def _by_layer(self, matched: list[int], layers: int) -> dict[int, float]:
        """λ of each layer: a gradient over the matched layers, or the values for the layers that the rule names."""
        if isinstance(self.lam, Gradient):
            return {layer: self.lam.at(layer, (matched[0], matched[-1])) for layer in matched}
        named = [layer for low, high in self.ranges or ((0, layers - 1),) for layer in range(low, high + 1)]
        if len(self.values) != len(named):
            whose = self._where if self.layers else f"a model of {counted(layers, 'layer')}"
            raise MullError(
                f"{counted(len(self.values), 'per-layer value')} for {whose}", f"give {counted(len(named), 'value')}"
            )
        return dict(zip(named, map(float, self.values), strict=True))

    @property
    def _where(self) -> str:
        return "layers " + format_ranges(self.ranges)

    def __str__(self) -> str:
        text = " of ".join(
            (["modules " + ",".join(self.modules)] if self.modules else []) + ([self._where] if self.layers else [])
        )
        if self.name is not None:
            return f"{text} named {self.name!r}" if text else f"the name {self.name!r}"
        return text or ("all layers" if isinstance(self.lam, Gradient) else "all parameters")


def shortest(lam: float) -> str:
    """The shortest decimal form that is parsed as the same number: 0.8, 1, 1e-05."""
    return repr(float(lam) + 0.0).removesuffix(".0")


def format_ranges(ranges: Iterable[Range]) -> str:
    """Inclusive ranges as text: "0-11,24"."""
    return ",".join(f"{low}-{high}" if low < high else str(low) for low, high in ranges)


def as_ranges(layers: Iterable[int]) -> tuple[Range, ...]:
    """The fewest inclusive ranges, ascending, that contain exactly these layers."""
    return _joined([(layer, layer) for layer in layers])


def canonical(ranges: Iterable[Range]) -> Layers:
    """The ranges sorted, and joined where they touch or overlap; a single range as a plain pair.

    Raises:
        MullError: a range contains no layer.
    """
    ranges = tuple(ranges)
    for low, high in ranges:
        if not 0 <= low <= high:
            raise MullError(f"layer range {low}-{high} is empty", "write FIRST-LAST, from layer 0")
    joined = _joined(ranges)
    return joined[0] if len(joined) == 1 else joined


def _joined(ranges: Iterable[Range]) -> tuple[Range, ...]:
    joined: list[Range] = []
    for low, high in sorted(ranges):
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
        else:
            joined.append((low, high))
    return tuple(joined)


def _hint(rule: Rule, names: Sequence[str]) -> str:
    """A remedy for a rule that matches nothing: what the model has instead."""
    if not rule.is_scalar and any(Rule(0.0, rule.layers, rule.modules, rule.name).matches(name) for name in names):
        return "a gradient or a list reaches only what lies in layers; give these parameters one number"
    if rule.name is not None:
        named = [name for name in names if rule._fits(name)]
        if not named:
            return "a pattern covers the whole name; nearest here: " + ", ".join(_nearest_names(rule.name, names))
        return f"names that fit are {_summary(named)}"
    if rule.modules:
        of_kind = [name for name in names if not set(rule.modules).isdisjoint(module_kinds(name))]
        if of_kind:
            return f"modules {','.join(rule.modules)} are {_summary(of_kind)}"
    present = {kind for name in names for kind in module_kinds(name)}
    return "this model has the kinds " + ", ".join(kind for kind in SELECTORS if kind in present)


def _summary(names: Sequence[str]) -> str:
    layers = as_ranges(layer for layer in map(layer_of, names) if layer is not None)
    kinds = {kind for name in names for kind in module_kinds(name)}
    where = f"in layers {format_ranges(layers)}" if layers else "in no layer"
    return f"{where}, of the kinds {', '.join(kind for kind in SELECTORS if kind in kinds)}"


def _nearest_names(pattern: str, names: Sequence[str]) -> list[str]:
    """The three names most similar to the pattern, with `*` for numbers, so that users can copy them as globs."""
    shapes = {re.sub(r"\.\d+(?=\.)", ".*", name) for name in names}
    wanted = re.sub(r"\.\d+(?=\.)", ".*", pattern.removeprefix("re:").replace("\\", ""))
    return sorted(shapes, key=lambda shape: (-SequenceMatcher(None, wanted, shape).ratio(), shape))[:3]
