"""What the missing part of a plan will cost, from what is on record of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mull.analysis.records import Sample
from mull.runs.plan import SweepPlan
from mull.runs.run import planned
from mull.runs.store import Pace


class Expected(NamedTuple):
    """A plan before it is sampled."""

    responses: int
    """In all."""
    missing: int
    """Of them, not on record."""
    most_tokens: int
    """If every missing response ran into its limit."""
    tokens: float | None
    """Expected of the missing responses; None where nothing is on record to tell from."""
    seconds: float | None
    """Expected for them, at the speed of the run so far; None where it is unknown."""


def expected(plan: SweepPlan, samples: Sequence[Sample], pace: Pace | None) -> Expected:
    """What is missing of `plan`, given the samples on record.

    A setting's mean tokens are those on record; where it has none, its λ is interpolated between those that have, and
    other weights are given the mean of all.
    """
    on_record = planned(plan, samples)
    done = Counter(sample.setting for sample in on_record)
    per_setting: dict[str, list[int]] = defaultdict(list)
    for sample in samples:
        per_setting[sample.setting].append(sample.tokens)
    means = {label: float(np.mean(tokens)) for label, tokens in per_setting.items()}
    along = sorted({(sample.lam, means[sample.setting]) for sample in samples if sample.lam is not None})
    whole = float(np.mean([sample.tokens for sample in samples])) if samples else None
    missing = most = 0
    tokens = 0.0
    for setting in plan.settings:
        left = plan.per_setting - done[setting.label]
        missing += left
        most += left * (setting.sampling or plan.sampling).max_tokens
        if setting.label in means:
            mean = means[setting.label]
        elif setting.lam is not None and along:
            mean = float(np.interp(setting.lam, [lam for lam, _ in along], [mean for _, mean in along]))
        else:
            mean = whole or 0.0
        tokens += left * mean
    known = None if missing and not samples else tokens
    speed = pace.tokens / pace.seconds if pace and pace.tokens and pace.seconds else None
    seconds = known / speed if known is not None and speed else (0.0 if not missing else None)
    return Expected(plan.total, missing, most, known, seconds)
