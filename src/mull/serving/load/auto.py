"""λ(q) of a request for `auto`: by the estimator, and lower under load."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from mull.dynamic.base import Cost
from mull.serving.backend import Backend, PromptIds
from mull.serving.load.control import LoadControl


class Auto(NamedTuple):
    """A λ that was chosen for a query."""

    lam: float
    said: dict[str, Any]
    """What the reply says of it: source, cost, and under load the λ before (None: the question was not probed)."""
    reason: str | None
    """Why it was lowered, for the metrics; None: it was not."""


async def auto(backend: Backend, control: LoadControl, prompt: PromptIds, *, began: float, own: int, most: int) -> Auto:
    """`began`: when the request came. `own`: how many responses it asks for, of `most` tokens each. Raises `MullError`
    as the backend does."""
    skipped = control.unasked(backend.under_way + own, most=most)
    if skipped is not None:
        return Auto(skipped.lam, {**_said(skipped.why, Cost()), "lowered_from": None}, skipped.reason)
    choice = await backend.choose(prompt)
    spent = time.perf_counter() - began
    lowered = control.lowered(choice.lam, backend.under_way + own, spent=spent, most=most)
    if lowered is None:
        return Auto(choice.lam, _said(choice.why, choice.cost), None)
    said = _said(f"{choice.why}; {lowered.why}", choice.cost)
    return Auto(lowered.lam, {**said, "lowered_from": choice.lam}, lowered.reason)


def _said(why: str, cost: Cost) -> dict[str, Any]:
    return {"source": f"auto ({why})", "cost": cost._asdict()}
