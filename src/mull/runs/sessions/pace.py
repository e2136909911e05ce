"""Estimates tokens and time of the missing part of a plan from the samples recorded so far."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mull.analysis.records import Sample
from mull.benchmarks import Question
from mull.planning.sweep import Part, Total, mean_tokens, total
from mull.runs.plan import SweepPlan
from mull.runs.run import planned
from mull.runs.store import Pace


class Expected(NamedTuple):
    """What sampling the rest of a plan will take."""

    responses: int
    """Of the whole plan."""
    missing: int
    """Responses that are not recorded yet."""
    most_tokens: int
    """Tokens if every missing response reached its limit."""
    tokens: float | None
    """Expected tokens of the missing responses; None if no sample is recorded yet."""
    seconds: float | None
    """Expected seconds for them, at the speed of the run so far; None if it is unknown."""
    benchmarks: Mapping[str, Total]
    """The same of each of several benchmarks, without seconds; empty where there is one."""


def expected(plan: SweepPlan, samples: Sequence[Sample], pace: Pace | None) -> Expected:
    """What the rest of `plan` will take, given the recorded samples.

    A setting's mean tokens per response are those of its recorded samples. If it has none, the mean is interpolated
    over λ between the settings that have some; a setting without λ gets the mean of all samples. Of several benchmarks
    each has its own means.
    """
    asked: dict[str, list[Question]] = defaultdict(list)
    for question in plan.benchmark.questions():
        asked[question.benchmark].append(question)
    on_record = planned(plan, samples)
    found: dict[str, list[Part]] = {}
    for benchmark, questions in asked.items():
        own, done = ([s for s in each if benchmark in ("", s.benchmark)] for each in (samples, on_record))
        found[benchmark] = [*_parts(plan, questions, own, Counter(sample.setting for sample in done))]
    parts = [part for own in found.values() for part in own]
    speed = pace.tokens / pace.seconds if pace and pace.tokens and pace.seconds else None
    whole = total(parts, (lambda part: part.responses * (part.tokens or 0.0) / speed) if speed else None)
    return Expected(plan.total, *whole, {name: total(own, None) for name, own in found.items() if name})


def _parts(
    plan: SweepPlan, questions: Sequence[Question], samples: Sequence[Sample], done: Mapping[str, int]
) -> Iterator[Part]:
    """The missing responses of each setting to the questions of one benchmark. `samples`: those of it on record."""
    per_setting: dict[str, list[int]] = defaultdict(list)
    for sample in samples:
        per_setting[sample.setting].append(sample.tokens)
    means = {label: float(np.mean(tokens)) for label, tokens in per_setting.items()}
    mean_by_lam = [*{(sample.lam, means[sample.setting]) for sample in samples if sample.lam is not None}]
    overall_mean = float(np.mean([sample.tokens for sample in samples])) if samples else None
    for setting in plan.settings:
        if setting.label in means:
            mean = means[setting.label]
        elif setting.lam is not None and mean_by_lam:
            mean = mean_tokens(setting.lam, mean_by_lam)
        else:
            mean = overall_mean
        limit = plan.sampling_of(setting, questions[0]).max_tokens
        yield Part(len(questions) * plan.k - done.get(setting.label, 0), limit, mean)
