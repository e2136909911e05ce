"""Averages of the graders' further scores, besides right and wrong. Pure functions on `Sample` records.

Scores by name: `as_it_stands` (unclosed thoughts only: the thought contains the right answer), `ungraded` (the grader
failed on the response), `unparsed` (it could not read the answer that it found; counted in `mull.analysis.metrics`);
IFEval: `prompt_loose`, `instructions`, `followed`, `followed_loose`; multiple choice: `strict`, `robust`, `extracted`,
`extracted_robust`. Errors are clustered by question, as in `mull.analysis.metrics`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from mull.analysis.metrics import Estimate, by_numbers, clustered_mean
from mull.analysis.records import Sample


def completed(samples: Iterable[Sample]) -> list[Sample]:
    """The samples that ended by themselves, not at the token limit.

    Which samples end depends on λ, so two settings are then compared on different responses.
    """
    return [sample for sample in samples if sample.finish == "stop"]


def as_it_stands(samples: Iterable[Sample]) -> list[Sample]:
    """The same samples, but an unclosed thought counts as right if it contains the right answer."""
    return [
        replace(sample, correct=sample.scores["as_it_stands"] == 1.0) if "as_it_stands" in sample.scores else sample
        for sample in samples
    ]


def mean_score(samples: Sequence[Sample], name: str, default: float = math.nan) -> Estimate:
    """Mean of one score. A sample without it counts as `default`, or is left out if that is NaN."""
    found = [(sample, sample.scores.get(name, default)) for sample in samples]
    kept = [(sample, value) for sample, value in found if not math.isnan(value)]
    values = np.array([value for _, value in kept], dtype=float)
    return clustered_mean(values, _clusters([sample for sample, _ in kept]))


def share(samples: Sequence[Sample], test: Callable[[Sample], bool]) -> Estimate:
    """Share of the samples that pass `test`."""
    return clustered_mean(np.array([test(sample) for sample in samples], dtype=float), _clusters(samples))


def ratio(samples: Sequence[Sample], top: str, bottom: str) -> Estimate:
    """Σ `top` / Σ `bottom` over the samples that have `bottom`, e.g. instructions followed of instructions given.

    The error is that of a ratio of sums, linearised: √(C/(C−1) Σ_c (Σ_{i∈c} (t_i − r·b_i))²) / Σ b (Cochran 1977,
    Sampling Techniques, eq. 6.13, over clusters).
    """
    kept = [sample for sample in samples if bottom in sample.scores]
    tops = np.array([sample.scores.get(top, 0.0) for sample in kept], dtype=float)
    bottoms = np.array([sample.scores[bottom] for sample in kept], dtype=float)
    if not kept or bottoms.sum() == 0:
        return Estimate(math.nan, math.nan)
    value = float(tops.sum() / bottoms.sum())
    sums = np.bincount(_clusters(kept), weights=tops - value * bottoms)
    if sums.size < 2:
        return Estimate(value, math.nan)
    return Estimate(value, float(np.sqrt(sums.size / (sums.size - 1) * (sums**2).sum()) / bottoms.sum()))


def further_scores(samples: Sequence[Sample]) -> dict[str, Estimate]:
    """Title → value of every further score that one setting's samples have, as shares 0–1.

    "completed only" is Mean@k over the responses that ended by themselves; "unclosed as it stands" is Mean@k of
    `as_it_stands`.
    """
    names = {name for sample in samples for name in sample.scores}
    found: dict[str, Estimate] = {}
    ended = completed(samples)
    if ended:
        found["completed only"] = share(ended, lambda sample: sample.correct)
    if "as_it_stands" in names:
        found["unclosed as it stands"] = share(as_it_stands(samples), lambda sample: sample.correct)
    if "instructions" in names:
        found["prompt, loose"] = mean_score(samples, "prompt_loose", 0.0)
        found["instruction, strict"] = ratio(samples, "followed", "instructions")
        found["instruction, loose"] = ratio(samples, "followed_loose", "instructions")
    if "extracted" in names:
        found["strict letter"] = mean_score(samples, "strict", 0.0)
        found["robust letter"] = mean_score(samples, "robust", 0.0)
        found["no strict letter"] = _complement(mean_score(samples, "extracted", 0.0))
        found["no letter at all"] = _complement(mean_score(samples, "extracted_robust", 0.0))
    if "ungraded" in names:
        found["ungraded"] = mean_score(samples, "ungraded", 0.0)
    return found


def scores_by_setting(samples: Iterable[Sample]) -> dict[str, dict[str, Estimate]]:
    """`further_scores` of each setting, by rising λ; empty if no sample has further scores."""
    groups: dict[str, list[Sample]] = {}
    for sample in sorted(samples, key=lambda s: (s.lam is None, s.lam or 0.0, by_numbers(s.setting))):
        groups.setdefault(sample.setting, []).append(sample)
    if not any(sample.scores for own in groups.values() for sample in own):
        return {}
    return {setting: further_scores(own) for setting, own in groups.items()}


def names_of_scores(found: Mapping[str, Mapping[str, Estimate]]) -> list[str]:
    """Every score that some setting has, in the order of `further_scores`."""
    return list(dict.fromkeys(name for scores in found.values() for name in scores))


def _complement(estimate: Estimate) -> Estimate:
    return Estimate(1.0 - estimate.value, estimate.error)


def _clusters(samples: Sequence[Sample]) -> np.ndarray:
    number: dict[tuple[str, str], int] = {}
    return np.array([number.setdefault((s.benchmark, s.question), len(number)) for s in samples], dtype=int)
