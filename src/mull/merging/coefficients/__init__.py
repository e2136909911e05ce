"""Which λ each parameter gets: ordered rules, their selectors and files; recipes of a method with its λ."""

from mull.merging.coefficients.mapping import (
    Coefficients,
    Decision,
    Gradient,
    Layers,
    Rule,
    check_lambda,
    parse_lambdas,
    parse_layers,
)

__all__ = [
    "Coefficients",
    "Decision",
    "Gradient",
    "Layers",
    "Rule",
    "check_lambda",
    "parse_lambdas",
    "parse_layers",
]
