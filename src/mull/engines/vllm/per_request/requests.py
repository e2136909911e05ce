"""The λ that a request names, and the salt that keeps its keys and values apart from those of other λ."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mull.errors import MullError

LAMBDA = "lambda"
"""The name of λ in `SamplingParams.extra_args`, which is the field `vllm_xargs` of an HTTP request."""


def lambda_of(extra_args: Mapping[str, Any] | None, default: float) -> float:
    """The λ that a request names; `default` if it names none. Raises `MullError` for what is no number in [0, 1]."""
    given = (extra_args or {}).get(LAMBDA)
    if given is None:
        return default
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
        raise MullError(f"lambda must be a number, got {given!r}", "0 = the Instruct checkpoint, 1 = the Thinking one")
    if not 0 <= given <= 1:
        raise MullError(f"lambda must lie in [0, 1], got {given:g}", "1 = the Thinking checkpoint")
    return float(given)


def cache_salt(lam: float, rest: str = "") -> str:
    """What vLLM hashes with a prompt, so that its cached prefix is found again at this λ only.

    `rest`: a salt of the client's own. A salt of this λ is given back as it is.
    """
    mark = f"{LAMBDA}={float(lam)!r}|"
    return rest if rest.startswith(mark) else mark + rest
