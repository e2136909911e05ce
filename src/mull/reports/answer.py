"""The answer that a sweep gives: which λ to use, what it gains and costs against λ = 1, and how to get that model."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass

from mull.analysis.choosing.choose import choose
from mull.analysis.choosing.options import Goal
from mull.analysis.comparable import comparable
from mull.analysis.metrics import SettingMetrics
from mull.analysis.paired import Contrast
from mull.analysis.summary import cut_off
from mull.reports.results import Results
from mull.runs.plan import StudyKind


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a sweep along λ recommends."""

    pick: SettingMetrics | None
    """Of the λ within one standard error of the most accurate, the one with the fewest tokens; None where none can be
    recommended."""
    reason: str
    """Why this one, or why none."""
    last: SettingMetrics
    """The highest λ, which the pick is compared with."""
    against: Contrast | None = None
    """The pick less the highest λ; None where the pick is that one."""
    command: str = ""
    """Merges the pick; empty where the run does not know the checkpoints."""


def answer(results: Results) -> Answer | None:
    """The λ to use; None for a run that is no sweep along λ."""
    with_lam = [m for m in results.metrics if m.lam is not None]
    if not with_lam or len(results.plan["settings"]) < 2 or StudyKind(results.plan["study"]) != StudyKind.sweep:
        return None
    last = with_lam[-1]
    if results.nothing_right:
        return Answer(pick=None, last=last, reason="no response is right at any λ")
    settings = {m.setting for m in with_lam}
    samples = [sample for sample in results.samples if sample.setting in settings]
    found = comparable(samples, len(results.questions), results.plan["k"])
    left_out = set(found.left_out)
    if len(settings - left_out) < 2:
        return Answer(pick=None, last=last, reason="two λ at least must be finished: short responses come first")
    # A budget that every λ keeps: only the accuracy decides, and among equals the tokens.
    budget = 2 * max(m.tokens.value for m in results.metrics) + 1
    chosen = choose(found.samples, Goal(budget=budget), fresh=False).pick
    if chosen is None:
        return Answer(pick=None, last=last, reason="no response of a finished λ is right")
    pick = next(m for m in with_lam if m.setting == chosen.setting)
    against = next((each for each in results.to_last if each.setting == pick.setting), None)
    return Answer(
        pick=pick, reason=_reason(results, pick, left_out), last=last, against=against, command=_merge(results, pick)
    )


def _reason(results: Results, pick: SettingMetrics, left_out: set[str]) -> str:
    most = max((m for m in results.sweep if m.setting not in left_out), key=lambda m: m.mean_at_k.value)
    if pick.mean_at_k.value >= most.mean_at_k.value:
        why = "the most accurate"
    else:
        why = f"within one standard error of the most accurate (λ = {most.lam:g}), with fewer tokens"
    finished = "of those that are finished " if left_out else ""
    cut = ", but many of its responses were cut off" if cut_off(pick) else ""
    return f"{finished}{why}{cut}"


def _merge(results: Results, pick: SettingMetrics) -> str:
    ends = [results.provenance.get(side) for side in ("instruct", "thinking")]
    if not all(ends) or pick.lam is None or math.isnan(pick.lam):
        return ""
    words = ["mull", "merge", "--instruct", str(ends[0]), "--thinking", str(ends[1]), "--lambda", f"{pick.lam:g}"]
    donor = results.plan.get("donor", "thinking")
    words += ["--donor", donor] if donor != "thinking" else []
    return shlex.join([*words, "-o", "merged"])
