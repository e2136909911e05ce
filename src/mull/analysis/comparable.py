"""Selects the samples of an unfinished run that may be compared, and warns of figures that may not mean what they say.

A comparison is biased if whether a sample is missing depends on the response: long responses finish last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

from mull.analysis.metrics import SettingMetrics
from mull.analysis.records import Sample
from mull.words import counted


class Comparable(NamedTuple):
    """Samples that may be compared, and the settings that were left out."""

    samples: list[Sample]
    left_out: list[str]
    """Settings, in the order of the samples; all settings if none is comparable, and then all samples are kept."""
    questions: int
    """Number of questions that all kept settings share."""


def comparable(
    samples: Sequence[Sample], questions: int, k: int, under_way: Collection[str] | None = None
) -> Comparable:
    """The samples of all fully sampled settings, on the questions that these settings share.

    `questions`, `k`: numbers of the plan. A stopped sweep has only the short responses of its last setting, so that a
    setting counts only with all of its samples. A race (`mull choose`) samples some settings less than others, but
    finishes each step before the next: there `under_way` names the settings of the unfinished step. Every other setting
    counts if it has at least half of the questions, and equally many samples of each of them.
    """
    counts: dict[str, Counter[str]] = {}
    for sample in samples:
        counts.setdefault(sample.setting, Counter())[sample.question] += 1

    def is_complete(setting: str, numbers: Counter[str]) -> bool:
        if len(set(numbers.values())) > 1:
            return False
        if numbers.total() == questions * k:
            return True
        return under_way is not None and setting not in under_way and 2 * len(numbers) >= questions

    complete = {setting: set(numbers) for setting, numbers in counts.items() if is_complete(setting, numbers)}
    shared = set.intersection(*complete.values()) if complete else set()
    if not shared:
        return Comparable(list(samples), list(counts), len({sample.question for sample in samples}))
    kept = [sample for sample in samples if sample.setting in complete and sample.question in shared]
    return Comparable(kept, [setting for setting in counts if setting not in complete], len(shared))


def coverage(samples: Sequence[Sample]) -> str:
    """A sentence on how many samples each setting has; empty if all have the same numbers.

    They differ in a run that has grown or was stopped. Then each setting is measured on all of its samples, and two
    settings are compared on the questions that both have.
    """
    counts: dict[str, Counter[str]] = {}
    for sample in samples:
        counts.setdefault(sample.setting, Counter())[sample.question] += 1
    shapes: dict[str, list[str]] = {}
    for setting, numbers in counts.items():
        least, most = min(numbers.values()), max(numbers.values())
        each = f"{least}" if least == most else f"{least} to {most}"
        shapes.setdefault(f"{counted(len(numbers), 'question')} × {each}", []).append(setting)
    if len(shapes) < 2:
        return ""
    parts = [f"{', '.join(settings)}: {shape}" for shape, settings in shapes.items()]
    return f"not all settings have the same samples ({'; '.join(parts)}); differences are on shared questions"


FEW = 0.05
"""A Think #R up to this is near 0."""


def unthinking_end(found: Sequence[SettingMetrics]) -> str:
    """A sentence if hardly any response at λ = 1 closes a thought; empty otherwise, and without λ = 1."""
    end = next((each for each in found if each.lam == 1), None)
    if end is None or end.think_ratio.value > FEW:
        return ""
    what = f"Think #R is {100 * end.think_ratio.value:.0f} % at λ = 1, where the model should think"
    if end.thinking["unclosed"].value > 0.5:
        return f"{what}: most of its thoughts do not end; give more --max-tokens"
    return (
        f"{what}. If its responses hold thoughts, these have other delimiters than the run's plan names and were "
        "graded as answers: sample into a new folder with --think-tags OPEN,CLOSE"
    )
