"""Keeps apart numbers that math-verify takes for equal because both are small.

math-verify compares to six decimals where a decimal is involved, and else to 10⁻¹⁵: for it 3·10⁻²⁰ is 10⁻²⁰. What it
takes for equal must here be equal in proportion, too. Runs in the process of the `math` grader.
"""

from __future__ import annotations

import random
from typing import Any

import sympy
from math_verify import grader

DIGITS = 60
"""Digits of the evaluation."""
EXACT = sympy.Float("1e-50")
"""Largest difference, in proportion, of two numbers without decimals."""
COMPUTED = sympy.Float("1e-12")
"""The same with decimals among roots and the like, of which math-verify keeps 15 digits."""
ROUNDED = sympy.Float("1e-5")
"""The same where one is a decimal: what six decimals leave open in a number of 0.1, so that 1/3 is 0.333333."""


def compare_in_proportion() -> None:
    """Have math-verify, in this process, keep apart what `apart` does."""
    absolute = grader.sympy_numeric_eq

    def numeric_eq(a: Any, b: Any, float_rounding: int, numeric_precision: int) -> bool:
        return absolute(a, b, float_rounding, numeric_precision) and not apart(a, b)

    grader.sympy_numeric_eq = numeric_eq


def apart(a: Any, b: Any) -> bool:
    """Whether two expressions have clearly different values, for some value of their variables.

    Percentages are left to math-verify, for which 50 % is 50 and 0.5; so are matrices, whose entries it asks for one
    by one.
    """
    if (
        not (isinstance(a, sympy.Expr) and isinstance(b, sympy.Expr))
        or a.has(sympy.UnevaluatedExpr)
        or b.has(sympy.UnevaluatedExpr)
    ):
        return False
    exact_a, exact_b = _exact(a), _exact(b)
    with_decimals = [exact for value, exact in ((a, exact_a), (b, exact_b)) if value.has(sympy.Float)]
    limit = EXACT if not with_decimals else ROUNDED if any(exact.is_Rational for exact in with_decimals) else COMPUTED
    variables = sorted(exact_a.free_symbols | exact_b.free_symbols, key=str)
    draw = random.Random(0)
    points = [[0] * len(variables), *([sympy.Rational(draw.randint(1, 999), 500) for _ in variables] for _ in range(2))]
    return any(
        _unequal(exact_a, exact_b, dict(zip(variables, point, strict=True)), limit)
        for point in (points if variables else points[:1])
    )


def _exact(value: Any) -> Any:
    """`value` with every decimal as the fraction that it was written as."""
    value = value.doit()
    return value.xreplace({number: sympy.Rational(str(number)) for number in value.atoms(sympy.Float)})


def _unequal(a: Any, b: Any, point: dict[Any, Any], limit: Any) -> bool:
    x, y = a.subs(point).evalf(DIGITS), b.subs(point).evalf(DIGITS)
    if not (x.is_number and y.is_number and x.is_finite and y.is_finite):
        return False
    return bool(abs(x - y) > limit * max(abs(x), abs(y)))
