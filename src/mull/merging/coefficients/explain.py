"""Which rule decides the λ of which parameters of a model: pure functions on names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mull.checkpoints.names import layer_of, module_kinds
from mull.merging.coefficients import Coefficients, Decision
from mull.merging.coefficients.rules import SELECTORS, as_ranges, format_ranges


@dataclass(frozen=True)
class Assignment:
    """The parameters that get one λ from one rule."""

    lam: float
    rule: int | None
    """Index of the rule that decided; None = the default."""
    tensors: int
    layers: str
    """Their layers, as in "0-11,24"; empty if they belong to no layer."""
    outside: int
    """How many of them belong to no layer."""
    kinds: tuple[str, ...]
    """Their module kinds and parts, in the order of `SELECTORS`."""


def explain(coefficients: Coefficients, names: Iterable[str]) -> list[Assignment]:
    """One row for each rule and λ: first the default, then the rules in order, the λ of a rule sorted by first layer.

    Raises:
        MullError: as `Coefficients.decisions`.
    """
    groups: dict[Decision, list[str]] = {}
    for name, decision in coefficients.decisions(names).items():
        groups.setdefault(decision, []).append(name)
    rows = []
    for decision, members in groups.items():
        layers = [layer for layer in map(layer_of, members) if layer is not None]
        kinds = {kind for name in members for kind in module_kinds(name)}
        row = Assignment(
            decision.lam,
            decision.rule,
            len(members),
            format_ranges(as_ranges(layers)),
            len(members) - len(layers),
            tuple(kind for kind in SELECTORS if kind in kinds),
        )
        rows.append((-1 if decision.rule is None else decision.rule, min(layers, default=-1), row))
    return [row for *_, row in sorted(rows, key=lambda item: item[:2])]


def shadowed(coefficients: Coefficients, rows: Iterable[Assignment]) -> list[int]:
    """Indices of the rules without effect, because later rules match all their parameters."""
    deciding = {row.rule for row in rows}
    return [i for i in range(len(coefficients.rules)) if i not in deciding]
