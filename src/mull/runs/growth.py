"""What a run may grow by: more λ, more samples of each question, more questions of the same benchmark.

What is on record stays and is never sampled again; everything else that moves samples makes another run. Works on plan
records (`SweepPlan.record`) and knows no store.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mull.runs.plan import StudyKind

Questions = Mapping[str, Mapping[str, str]]
"""Question id → text, gold and stratum."""


class Growth(NamedTuple):
    """A run that has held one plan and goes on with another."""

    record: dict[str, Any]
    """What the run then holds: all of both plans that goes together, else as the new one says."""
    before: dict[str, Any]
    """The old record with what goes together as in `record`: equal to `record` just where the run may go on."""
    questions: Questions


def grow(old: Mapping[str, Any], new: Mapping[str, Any], old_questions: Questions, new_questions: Questions) -> Growth:
    """Two sweeps go together in their settings, any two plans in k, and in their questions where one list holds
    the other: then the longer one counts. Plans may shrink: the run goes on holding what it held."""
    both: dict[str, Any] = {"k": max(old["k"], new["k"])}
    if old["study"] == new["study"] and new["study"] in (StudyKind.sweep, StudyKind.other):
        for part in ("settings", "models"):  # under which name a server has a λ belongs to that λ
            if part in old and part in new and _agree(old[part], new[part]):
                both[part] = {**old[part], **new[part]}
    questions, asked = new_questions, {}
    less, more = sorted((old_questions, new_questions), key=len)
    if less.keys() <= more.keys() and _agree(less, more):
        questions, longer = more, old if more is old_questions else new
        both["questions"] = longer["questions"]
        asked = {key: longer["benchmark"][key] for key in ("questions",) if key in longer["benchmark"]}
    record, before = ({**side, **both, "benchmark": {**side["benchmark"], **asked}} for side in (dict(new), dict(old)))
    return Growth(record, before, questions)


def _agree(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return all(a[key] == b[key] for key in a.keys() & b.keys())
