"""What a run may grow by: more λ, more samples of each question, more questions of the same benchmark.

Recorded samples stay and are never sampled again. A plan that differs in anything else that changes samples needs
another run. Works on plan records (`SweepPlan.record`) and knows no store.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mull.runs.plan import StudyKind

Questions = Mapping[str, Mapping[str, str]]
"""Question id → text, gold and stratum."""


class Growth(NamedTuple):
    """A run with the plan `old` that goes on with the plan `new` (see `grow`)."""

    record: dict[str, Any]
    """The record of the grown run: what can grow is the union of both plans, the rest is from the new plan."""
    before: dict[str, Any]
    """The same union with the rest from the old plan. The run may go on only if this equals `record`."""
    questions: Questions


def grow(old: Mapping[str, Any], new: Mapping[str, Any], old_questions: Questions, new_questions: Questions) -> Growth:
    """Unite two plans: k of any two plans, settings of two sweeps, questions if one list contains the other.

    The larger k and the longer list of questions count. A new plan may be smaller: the run keeps what it has."""
    united: dict[str, Any] = {"k": max(old["k"], new["k"])}
    if old["study"] == new["study"] and new["study"] in (StudyKind.sweep, StudyKind.other):
        for part in ("settings", "models"):  # `models`: the model name at the server of each λ
            if part in old and part in new and _agree(old[part], new[part]):
                united[part] = {**old[part], **new[part]}
    questions, asked = new_questions, {}
    shorter, longer = sorted((old_questions, new_questions), key=len)
    if shorter.keys() <= longer.keys() and _agree(shorter, longer):
        questions, source = longer, old if longer is old_questions else new
        united["questions"] = source["questions"]
        asked = source["benchmark"]
    record, before = (
        {**plan, **united, "benchmark": _asking(plan["benchmark"], asked)} for plan in (dict(new), dict(old))
    )
    return Growth(record, before, questions)


def _asking(benchmark: Mapping[str, Any], source: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a benchmark, or of several, with the numbers of questions of `source`."""
    found = {**benchmark, **{key: source[key] for key in ("questions",) if key in source}}
    if "parts" in benchmark:
        others = source.get("parts", {})
        found["parts"] = {name: _asking(part, others.get(name, {})) for name, part in benchmark["parts"].items()}
    return found


def _agree(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return all(a[key] == b[key] for key in a.keys() & b.keys())
