"""Coefficients from the options of a command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mull.errors import MullError
from mull.merging.coefficients import Coefficients, parse_layers
from mull.merging.coefficients.selectors import parse_rule
from mull.merging.coefficients.toml import load_coefficients


def read_coefficients(
    lam: float | None,
    *,
    layers: str | None = None,
    modules: str | None = None,
    file: Path | None = None,
    rules: Sequence[str] = (),
    extrapolate: bool = False,
) -> Coefficients:
    """The coefficients that --lambda with --layers and --modules, or --coefficients, and then each --set describe.

    λ holds everywhere, or in `layers` and `modules` with λ = 0 elsewhere; a file replaces the three; `rules`
    ("SELECTOR=VALUE") come last and so decide over both.

    Raises:
        MullError: neither λ nor file, a file beside λ, layers or modules, or what cannot be read.
    """

    if file is not None:
        given = {"--lambda": lam, "--layers": layers, "--modules": modules}
        extra = [option for option, value in given.items() if value is not None]
        if extra:
            raise MullError(
                f"{extra[0]} and --coefficients both say what λ is", "write it into the file, or as a rule with --set"
            )
        start = load_coefficients(file, extrapolate=extrapolate)
    elif lam is None:
        raise MullError("no λ is given", "pass --lambda, or a file with --coefficients")
    else:
        start = Coefficients.only(
            lam,
            layers=parse_layers(layers) if layers is not None else None,
            modules=[kind.strip() for kind in modules.split(",")] if modules is not None else None,
            extrapolate=extrapolate,
        )
    return start.then(map(parse_rule, rules))
