"""Which samples of an unfinished run may be compared: what is missing must not depend on how responses turned out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from mull.study.records import Sample


class Comparable(NamedTuple):
    """Samples that may be compared, and what was left out for it."""

    samples: list[Sample]
    left_out: list[str]
    """Settings, in their order; all of them where nothing is comparable and everything is kept."""
    questions: int
    """How many questions the settings share."""


def comparable(samples: Sequence[Sample], questions: int) -> Comparable:
    """The settings with the same number of samples of each of their questions, on the questions that all these share.

    `questions`: those of the plan. A stopped sweep breaks off unevenly, short responses first; a race (`mull choose`)
    samples some settings less than others, but evenly. A setting with less than half of the questions is left out.
    """
    counts: dict[str, Counter[str]] = {}
    for sample in samples:
        counts.setdefault(sample.setting, Counter())[sample.question] += 1
    even = {
        setting: set(own)
        for setting, own in counts.items()
        if len(set(own.values())) == 1 and 2 * len(own) >= questions
    }
    if not even:
        return Comparable(list(samples), list(counts), len({sample.question for sample in samples}))
    shared = set.intersection(*even.values())
    kept = [sample for sample in samples if sample.setting in even and sample.question in shared]
    return Comparable(kept, [setting for setting in counts if setting not in even], len(shared))
