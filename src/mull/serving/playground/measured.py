"""What a sweep of the pair has measured, for the page's curves and the sentence on the λ in use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mull.analysis.metrics import SettingMetrics, metrics
from mull.analysis.paired import paired_difference
from mull.analysis.records import Sample, by_benchmark
from mull.analysis.stages import Stages
from mull.reports.format import fixed, signed, stage_bounds
from mull.words import counted


def measured(samples: Sequence[Sample], stages: Stages, run: str) -> dict[str, Any] | None:
    """Accuracy, Think #R and tokens at each λ of the run called `run`, as JSON; None where it has no λ.

    Shares are fractions 0–1, errors standard errors (None where unknown). Settings that are no plain λ are left out.
    """
    found = [m for m in metrics(samples) if m.lam is not None]
    if not found:
        return None
    ends = (found[-1], found[0])
    questions = max(m.questions for m in found)
    return {
        "about": f"{', '.join(by_benchmark(samples))}, {counted(questions, 'question')}, run {run}",
        "stage2": stage_bounds(stages),
        "points": [
            {
                "lambda": m.lam,
                "accuracy": _pair(m.mean_at_k),
                "think": _pair(m.think_ratio),
                "tokens": _pair(m.tokens),
                "short": _short(m),
                "words": " ".join([f"{_short(m)}.", *(_against(m, end, samples) for end in ends if end is not m)]),
            }
            for m in found
        ],
    }


def _pair(estimate: tuple[float, float]) -> list[float | None]:
    return [None if math.isnan(value) else value for value in estimate]


def _short(m: SettingMetrics) -> str:
    return f"λ = {m.lam:g}: {fixed(100 * m.mean_at_k.value, 1)} % right with {fixed(m.tokens.value, 0)} tokens"


def _against(m: SettingMetrics, end: SettingMetrics, samples: Sequence[Sample]) -> str:
    """What this λ costs and gains against an end of the sweep, paired by question."""
    tokens = paired_difference(samples, m.setting, end.setting, "tokens")
    points = paired_difference(samples, m.setting, end.setting, "correct")
    cost, gain = "no clear difference in tokens", "no clear difference in accuracy"
    if not tokens.tie:
        share = signed(100 * tokens.difference / end.tokens.value, 0)
        more = "more" if tokens.difference > 0 else "fewer"
        cost = f"{fixed(abs(tokens.difference), 0)} tokens {more} ({share} %)"
    if not points.tie:
        more = "more" if points.difference > 0 else "less"
        gain = f"{fixed(100 * abs(points.difference), 1)} points {more} accurate"
    return f"Against λ = {end.lam:g}: {cost}, {gain}."
