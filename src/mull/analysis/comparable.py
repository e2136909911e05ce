"""Which samples of an unfinished run may be compared: what is missing must not depend on how responses turned out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

from mull.analysis.records import Sample


class Comparable(NamedTuple):
    """Samples that may be compared, and what was left out for it."""

    samples: list[Sample]
    left_out: list[str]
    """Settings, in their order; all of them where nothing is comparable and everything is kept."""
    questions: int
    """How many questions the settings share."""


def comparable(
    samples: Sequence[Sample], questions: int, k: int, under_way: Collection[str] | None = None
) -> Comparable:
    """The settings that are sampled in full, on the questions that all these share.

    `questions`, `k`: of the plan. A stopped sweep breaks off with the short responses, so that only a setting with all
    of its samples counts. A race (`mull choose`) samples some settings less than others, but each step to its end:
    there `under_way` names the settings of the step that was broken off, and all others count that have as many samples
    of each of their questions, which are half of all at least.
    """
    counts: dict[str, Counter[str]] = {}
    for sample in samples:
        counts.setdefault(sample.setting, Counter())[sample.question] += 1

    def full(setting: str, own: Counter[str]) -> bool:
        if len(set(own.values())) > 1:
            return False
        if own.total() == questions * k:
            return True
        return under_way is not None and setting not in under_way and 2 * len(own) >= questions

    found = {setting: set(own) for setting, own in counts.items() if full(setting, own)}
    shared = set.intersection(*found.values()) if found else set()
    if not shared:
        return Comparable(list(samples), list(counts), len({sample.question for sample in samples}))
    kept = [sample for sample in samples if sample.setting in found and sample.question in shared]
    return Comparable(kept, [setting for setting in counts if setting not in found], len(shared))


def coverage(samples: Sequence[Sample]) -> str:
    """What each setting has, in words, where they do not all have the same; empty where they do.

    Settings of a run that has grown or was stopped may differ. Each is then measured on what it has, and two are
    compared on the questions that both have.
    """
    counts: dict[str, Counter[str]] = {}
    for sample in samples:
        counts.setdefault(sample.setting, Counter())[sample.question] += 1
    shapes: dict[str, list[str]] = {}
    for setting, own in counts.items():
        least, most = min(own.values()), max(own.values())
        each = f"{least}" if least == most else f"{least} to {most}"
        shapes.setdefault(f"{len(own):,} questions × {each}", []).append(setting)
    if len(shapes) < 2:
        return ""
    parts = [f"{', '.join(settings)}: {shape}" for shape, settings in shapes.items()]
    return f"not all settings have the same samples ({'; '.join(parts)}); differences are on shared questions"
