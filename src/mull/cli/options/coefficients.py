"""Makes coefficients from command-line options."""

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
    """The coefficients of --lambda with --layers and --modules, or of --coefficients, followed by the rules of --set.

    `lam` applies everywhere, or only in `layers` and `modules` with λ = 0 elsewhere. `file` replaces these three.
    `rules` ("SELECTOR=VALUE") come last, so they override the others.

    Raises:
        MullError: neither `lam` nor `file`; `file` together with `lam`, `layers` or `modules`; or an unreadable value.
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
