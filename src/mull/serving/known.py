"""What is known of a pair: the λ of the efforts, where a stream cannot tell thought from answer, tokens by λ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mull import tiny
from mull.analysis.records import Sample
from mull.analysis.stages import Stages, stages_of_samples
from mull.analysis.transition import fit_transition
from mull.errors import MullError
from mull.runs.store import RunStore
from mull.serving.levels import Undecided, efforts_of


@dataclass(frozen=True, kw_only=True)
class Known:
    """By default nothing."""

    efforts: Mapping[str, float] | None = None
    """None: those of the published guideline."""
    undecided: Undecided = field(default_factory=Undecided)
    source: str = ""
    """Where the efforts come from."""
    tokens: Mapping[float, float] = field(default_factory=dict)
    """Mean tokens of a response by λ."""
    run: str = ""
    """The name of the run that has measured it."""
    samples: Sequence[Sample] = ()
    stages: Stages | None = None
    built_in: bool = False
    """Whether it is the pair that comes with mull."""

    def levels(self) -> dict[str, Any]:
        """The arguments of `Levels` that this decides."""
        return {"efforts": self.efforts, "measured": self.source} if self.efforts else {}


def of_run(run: Path, pair: Mapping[str, str]) -> Known:
    """By a sweep of the pair with these hashes. Raises `MullError` for a run of another one."""
    with RunStore.open(run) as store:
        recorded = {side: store.plan.get(side) for side in pair}
        samples = store.samples(texts=False)
    if recorded != dict(pair):
        raise MullError(f"{run} is a run of another pair", "give one of `mull sweep` with these checkpoints")
    stages = stages_of_samples(samples)
    return Known(
        efforts=efforts_of(stages.fit if stages.found else None),
        undecided=Undecided.of(_means(samples, lambda sample: sample.thinking != "none")),
        source=f"by the stages of {run.name}",
        tokens=_means(samples, lambda sample: sample.tokens),
        run=run.name,
        samples=samples,
        stages=stages,
    )


def of_built_in() -> Known:
    """Of the pair that comes with mull."""
    ratio = tiny.THINK_RATIO
    efforts = efforts_of(fit_transition(list(ratio), list(ratio.values())))
    source = "by the stages of the built-in pair"
    return Known(efforts=efforts, undecided=Undecided.of(ratio), source=source, tokens=tiny.TOKENS, built_in=True)


def _means(samples: Sequence[Sample], value: Callable[[Sample], float]) -> dict[float, float]:
    """The mean of `value` over the responses of each λ."""
    found: dict[float, list[float]] = {}
    for sample in samples:
        if sample.lam is not None:
            found.setdefault(sample.lam, []).append(value(sample))
    return {lam: sum(values) / len(values) for lam, values in found.items()}
