"""λ(q) of a request for `auto`: by the estimator, and lower under load."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from mull.dynamic.base import Choice, Cost
from mull.serving.load.control import LoadControl


class Auto(NamedTuple):
    """A λ that was chosen for a query."""

    lam: float
    said: dict[str, Any]
    """What the reply says of it: source, cost, and under load the λ before (None: the question was not probed)."""
    reason: str | None
    """Why it was lowered, for the metrics; None: it was not."""


async def auto(
    choose: Callable[[], Awaitable[Choice]],
    load: Callable[[], int],
    control: LoadControl,
    *,
    began: float,
    most: int | None = None,
) -> Auto:
    """`choose` asks the estimator; `load` tells how many responses are under way, those of this request included.
    `began`: when the request came. `most`: the token limit of a response. Raises what `choose` raises."""
    skipped = control.unasked(load(), most=most)
    if skipped is not None:
        return Auto(skipped.lam, {**_said(skipped.why, Cost()), "lowered_from": None}, skipped.reason)
    choice = await choose()
    spent = time.perf_counter() - began
    lowered = control.lowered(choice.lam, load(), spent=spent, most=most)
    if lowered is None:
        return Auto(choice.lam, _said(choice.why, choice.cost), None)
    said = _said(f"{choice.why}; {lowered.why}", choice.cost)
    return Auto(lowered.lam, {**said, "lowered_from": choice.lam}, lowered.reason)


def _said(why: str, cost: Cost) -> dict[str, Any]:
    return {"source": f"auto ({why})", "cost": cost._asdict()}
