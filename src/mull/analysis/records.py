"""`Sample`: one recorded response, the input of every analysis. Knows no engine and no store."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mull.thinking import ThinkingKind

Key = tuple[str, str, int]
"""Setting, question and index of a sample."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One graded response."""

    benchmark: str
    question: str
    """Question id, unique within the benchmark; in a run of several behind the benchmark's name, unique in the run."""
    stratum: str = ""
    """Difficulty class of the question, or empty."""
    setting: str
    """Label of the weights that answered: the λ in shortest decimal form ("0.45") or a method's name."""
    lam: float | None
    """λ of a scalar interpolation; None for any other weights."""
    index: int
    """Which of the k samples of this question, from 0."""
    seed: int
    text: str
    """The response as generated, think tags included."""
    tokens: int
    """Generated tokens, thought and end-of-text token included."""
    prompt_tokens: int | None = None
    """Tokens of the prompt, template included; None where a server did not say."""
    thought_tokens: int | None = None
    """The part of `tokens` up to the end of the thought, its closing tag included; None if a server did not say."""
    finish: str
    """"stop" (ended by itself) or "length" (hit the token limit)."""
    thinking: ThinkingKind
    answer: str
    """The extracted answer, empty where none was found."""
    correct: bool
    seconds: float
    """Wall-clock seconds from the request's prefill to its last token; other requests of the batch share them."""
    scores: Mapping[str, float] = field(default_factory=dict, hash=False)
    """Further results of the grader by name (see `mull.analysis.scores`)."""

    @property
    def key(self) -> Key:
        """Identifies this sample within its run."""
        return self.setting, self.question, self.index


def by_benchmark(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    """Benchmark → its samples, by name."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.benchmark, []).append(sample)
    return {name: groups[name] for name in sorted(groups)}


def of_every_benchmark(samples: Sequence[Sample], benchmarks: Collection[str] | None = None) -> list[Sample]:
    """The samples of the settings that have some of each benchmark, by default of each that occurs."""
    found: dict[str, set[str]] = {}
    for sample in samples:
        found.setdefault(sample.setting, set()).add(sample.benchmark)
    every = set(benchmarks) if benchmarks is not None else set().union(*found.values())
    return [sample for sample in samples if found[sample.setting] >= every]
