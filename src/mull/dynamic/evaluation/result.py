"""What an evaluation found: its records and their comparison. Needs no checkpoints, only the runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from mull.analysis.records import Sample
from mull.dynamic.evaluation.comparison import Means, Table, pooled, question_means, table
from mull.dynamic.evaluation.policies import PolicyKind
from mull.errors import MullError
from mull.runs.settings import Route
from mull.runs.store import RunStore


@dataclass(frozen=True)
class Records:
    """What the run of one benchmark holds."""

    benchmark: str
    samples: list[Sample]
    """Without texts."""
    routes: Mapping[str, Mapping[str, Route]]
    """Policy → question → the λ that was chosen for it."""
    seconds: Mapping[str, float]
    """Policy → wall-clock seconds per response, the choice of λ included."""

    @classmethod
    def of(cls, store: RunStore, benchmark: str, samples: list[Sample]) -> Records:
        """Those of a run, of which `samples` count."""
        seconds = {label: wall.each for label, wall in store.walls.items() if wall.responses}
        return cls(benchmark, samples, store.routes, seconds)


@dataclass(frozen=True)
class Result:
    """The records of an evaluation and what they say."""

    samples: Mapping[str, list[Sample]]
    """By benchmark, without texts."""
    tables: Sequence[Table]
    """One for each benchmark; of several also one of all together, called "average", which comes first."""
    routes: Mapping[str, Mapping[str, Mapping[str, Route]]]
    """Benchmark → policy → question → the λ that was chosen for it."""
    means: Mapping[str, Mapping[str, Means]]
    """Benchmark → policy → means by question; "average" for all together, where there are several."""


def compared(records: Sequence[Records], kinds: Mapping[str, PolicyKind], *, prefill_weight: float = 0.0) -> Result:
    """The comparison of the policies `kinds` on one or several benchmarks (see `comparison.table`)."""
    found: dict[str, dict[str, Means]] = {}
    lams: list[dict[str, float]] = []
    for own in records:
        prefilled = {
            (label, question): float(route.prefilled)
            for label, row in own.routes.items()
            for question, route in row.items()
        }
        found[own.benchmark] = question_means(own.samples, prefilled)
        chosen = {label: [route.lam for route in row.values()] for label, row in own.routes.items()}
        lams.append({label: sum(row) / len(row) for label, row in chosen.items() if row})
    tables = [
        table(own.benchmark, means, kinds, seconds=own.seconds, lams=lam, prefill_weight=prefill_weight)
        for own, means, lam in zip(records, list(found.values()), lams, strict=True)
    ]
    if len(records) > 1:
        found = {"average": pooled(list(found.values())), **found}
        wall, lam = _averaged([own.seconds for own in records]), _averaged(lams)
        every = found["average"]
        tables = [table("average", every, kinds, seconds=wall, lams=lam, prefill_weight=prefill_weight), *tables]
    return Result(
        {own.benchmark: own.samples for own in records},
        tables,
        {own.benchmark: own.routes for own in records},
        found,
    )


def kinds_of(plan: Mapping[str, Any]) -> dict[str, PolicyKind]:
    """The policies of a run by the record of its plan, in their order; empty if it is no run of an evaluation.

    Raises `MullError` for a kind of policy that this mull does not know.
    """
    own = {label: (record.get("policy") or {}).get("kind") for label, record in plan["settings"].items()}
    if not any(own.values()):
        return {}
    unknown = next((kind for kind in own.values() if kind not in (None, *get_args(PolicyKind))), None)
    if unknown is not None:
        raise MullError(f"the run has a policy of an unknown kind ({unknown!r})", "read it with the mull that made it")
    return {label: kind or "static" for label, kind in own.items()}


def _averaged(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means of the entries that all parts have."""
    shared = set.intersection(*(set(part) for part in parts))
    return {key: sum(part[key] for part in parts) / len(parts) for key in shared}
