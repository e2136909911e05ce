"""mergekit's methods in terms of mull's: for each tensor a coefficient and the parameters of mull's method.

Each function gets `Values`, the recipe's parameters at one tensor. Where the two compute something else it leaves a
note, and where mull cannot do what is asked it raises. docs/decisions.md says why they differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from mull.errors import MullError

_PLENTY = 1e-8
"""mergekit does not divide by a sum of weights that is smaller."""


class Values(Protocol):
    """The parameters of a recipe at one tensor."""

    def number(self, name: str, default: float | None = None) -> float:
        """A parameter of the whole merge; without `default` it must be there."""
        ...

    def flag(self, name: str, default: bool) -> bool: ...

    def each(self, name: str, default: float | None = None) -> list[float]:
        """A parameter of each model."""
        ...


class Choice(NamedTuple):
    """What mull does with one tensor."""

    coefficient: float
    parameters: dict[str, Any]


Notes = set[str]
_DROPS_AT_RANDOM = (
    "mergekit drops other elements at random, and makes the sum of the sizes what it was; mull divides what is kept by "
    "the probability of keeping it, as the paper does"
)


@dataclass(frozen=True)
class Mapped:
    """One of mergekit's methods."""

    name: str
    """mull's name for it."""
    choose: Callable[[Values, Notes], Choice]
    base: bool
    """Whether it needs a base, from which task vectors are taken."""
    takes: frozenset[str]
    """Its parameters."""


def _linear(values: Values, notes: Notes) -> Choice:
    weights = values.each("weight")
    total = math.fsum(weights)
    if values.flag("normalize", True):
        if not total:
            raise MullError("the weights sum to 0", "give weights that can be divided by their sum")
        weights = [weight / total for weight in weights]
    elif not math.isclose(total, 1, abs_tol=1e-6):
        raise MullError(f"the weights sum to {total:g} without normalize", "give weights that sum to 1")
    return Choice(weights[1], {}) if len(weights) == 2 else Choice(1.0, {"weights": tuple(weights)})


def _slerp(values: Values, notes: Notes) -> Choice:
    return Choice(values.number("t"), {})


def _nuslerp(values: Values, notes: Notes) -> Choice:
    first, second = values.each("weight")
    share = 0.5 if abs(first + second) < 1e-6 else second / (first + second)
    flat = values.flag("nuslerp_flatten", True)
    if not flat and values.flag("nuslerp_row_wise", False):
        raise MullError(
            "nuslerp_row_wise is an arc for each column of the stored matrix", "leave it out: mull has rows"
        )
    return Choice(share, {"per": "tensor" if flat else "row"})


def _karcher(values: Values, notes: Notes) -> Choice:
    steps, tolerance = values.number("max_iter", 0), values.number("tol", 0)
    given = {"steps": round(steps)} if steps else {}
    if not steps or not tolerance:
        notes.add("mergekit stops after 10 steps or at 1e-5; mull goes on to the mean itself")
    return Choice(1.0, given | ({"tolerance": tolerance} if tolerance else {}))


def _model_stock(values: Values, notes: Notes) -> Choice:
    if values.flag("filter_wise", False):
        raise MullError(
            "filter_wise is a ratio for each row", "leave it out: mull has one for each tensor, as the paper"
        )
    notes.add("where the models point away from each other mull keeps the base; mergekit goes away from all of them")
    return Choice(1.0, {})


def _sce(values: Values, notes: Notes) -> Choice:
    density = values.number("select_topk", 1.0)
    if density <= 0:
        raise MullError("select_topk 0 selects nothing", "give a share above 0")
    if density < 1:
        notes.add("mergekit takes select_topk of the elements that differ at all, mull of all elements, as the paper")
    return Choice(1.0, {"density": min(density, 1.0)})


def _task_arithmetic(values: Values, notes: Notes) -> Choice:
    return _scaled(values, _divided(values, values.each("weight"), False))


def _ties(values: Values, notes: Notes) -> Choice:
    weights, density = _kept(values, values.each("weight"))
    _refuse_rescale(values, density)
    return _scaled(values, weights, density=density, normalize=values.flag("normalize", True))


def _breadcrumbs(values: Values, notes: Notes) -> Choice:
    weights, density = _kept(values, _divided(values, values.each("weight"), False))
    _refuse_rescale(values, density)
    gamma = values.each("gamma", 0.01)
    if any(0 < 1 - kept < dropped for kept, dropped in zip(density, gamma, strict=True)):
        notes.add("where density and gamma exceed 1 together, gamma is lowered, in mergekit as in mull")
    least = [max(0.0, min(dropped, 1 - kept)) for kept, dropped in zip(density, gamma, strict=True)]
    return _scaled(values, weights, density=density, gamma=tuple(least))


def _dare(values: Values, notes: Notes, *, elect: bool = False) -> Choice:
    weights, density = _kept(values, values.each("weight"))
    drops = any(kept < 1 for kept in density)
    normalize = values.flag("normalize", False)
    if not elect:
        weights, normalize = _divided(values, weights, False), False
    if not drops:
        return _scaled(values, weights, density=density, normalize=normalize)
    if values.flag("rescale", True):
        notes.add(_DROPS_AT_RANDOM)
        return _scaled(values, weights, density=density, normalize=normalize)
    notes.add("mergekit drops other elements at random")
    # mull divides by the density, which is undone here. A mean by weights would divide by the lowered weights, too.
    if not normalize:
        return _scaled(values, [w * kept for w, kept in zip(weights, density, strict=True)], density=density)
    if len(set(density)) > 1:
        raise MullError("rescale: false with normalize and several densities", "leave one of them out")
    choice = _scaled(values, weights, density=density, normalize=True)
    return choice._replace(coefficient=choice.coefficient * density[0])


def _dare_ties(values: Values, notes: Notes) -> Choice:
    return _dare(values, notes, elect=True)


def _della(values: Values, notes: Notes, *, elect: bool = True) -> Choice:
    weights, density = _kept(values, values.each("weight"))
    epsilon = [2 * each for each in values.each("epsilon", 0.15)]
    epsilon = [0.0 if kept == 1 else spread for kept, spread in zip(density, epsilon, strict=True)]
    if any(kept < 1 for kept in density):
        if not values.flag("rescale", True):
            raise MullError("della without rescale", "leave rescale out: mull divides by the probability, as the paper")
        notes.add(_DROPS_AT_RANDOM + " (epsilon here is half of the paper's)")
    if not elect:
        weights = _divided(values, weights, False)
    normalize = elect and values.flag("normalize", True)
    return _scaled(values, weights, density=density, epsilon=tuple(epsilon), normalize=normalize)


def _della_linear(values: Values, notes: Notes) -> Choice:
    return _della(values, notes, elect=False)


def _scaled(values: Values, weights: list[float], **parameters: Any) -> Choice:
    """With α = `lambda`; weights that are all 0 leave the base, which is α = 0."""
    scale = values.number("lambda", 1.0)
    if not any(weights):
        scale, weights = 0.0, [1.0] * len(weights)
    return Choice(scale, {"weights": tuple(weights), **parameters})


def _divided(values: Values, weights: list[float], default: bool) -> list[float]:
    """With `normalize`: divided by their sum, so that a sum of task vectors is their mean."""
    total = math.fsum(weights)
    if not values.flag("normalize", default) or abs(total) < _PLENTY:
        return weights
    return [weight / total for weight in weights]


def _kept(values: Values, weights: list[float]) -> tuple[list[float], tuple[float, ...]]:
    """Weights and densities, where a model of which nothing is kept gets weight 0 and density 1."""
    density = values.each("density", 1.0)
    weights = [weight if kept > 0 else 0.0 for weight, kept in zip(weights, density, strict=True)]
    return weights, tuple(min(kept, 1.0) if kept > 0 else 1.0 for kept in density)


def _refuse_rescale(values: Values, density: tuple[float, ...]) -> None:
    if values.flag("rescale", False) and any(kept < 1 for kept in density):
        raise MullError("rescale makes the sum of the sizes what it was, which mull does not", "leave it out")


_SHARED = frozenset({"weight", "lambda", "normalize", "int8_mask", "rescale"})
_SPARSE = _SHARED | {"density"}
METHODS = {
    "linear": Mapped("mi", _linear, False, frozenset({"weight", "normalize"})),
    "slerp": Mapped("slerp", _slerp, False, frozenset({"t"})),
    "nuslerp": Mapped("nuslerp", _nuslerp, False, frozenset({"weight", "nuslerp_flatten", "nuslerp_row_wise"})),
    "karcher": Mapped("karcher", _karcher, False, frozenset({"max_iter", "tol"})),
    "model_stock": Mapped("model_stock", _model_stock, True, frozenset({"filter_wise"})),
    "sce": Mapped("sce", _sce, True, frozenset({"select_topk", "int8_mask"})),
    "task_arithmetic": Mapped("ta", _task_arithmetic, True, _SPARSE),
    "ties": Mapped("ties", _ties, True, _SPARSE),
    "dare_linear": Mapped("dare", _dare, True, _SPARSE),
    "dare_ties": Mapped("dare_ties", _dare_ties, True, _SPARSE),
    "della": Mapped("della", _della, True, _SPARSE | {"epsilon"}),
    "della_linear": Mapped("della_linear", _della_linear, True, _SPARSE | {"epsilon"}),
    "breadcrumbs": Mapped("breadcrumbs", _breadcrumbs, True, _SPARSE | {"gamma"}),
}
NOT_HERE = {
    "passthrough": "it copies layers, and mull does not change the number of layers",
    "breadcrumbs_ties": "mull has breadcrumbs without electing signs, and ties",
    **dict.fromkeys(("multislerp",), "for several models there is karcher"),
    **dict.fromkeys(("nearswap", "arcee_fusion", "ram", "ramplus_tl"), "`mull methods` lists those that it has"),
}
"""mergekit's methods that mull does not have, with what to say of them."""
