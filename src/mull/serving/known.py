"""What is known of a pair's transition: the λ of the efforts, and where a stream cannot tell thought from answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        undecided=Undecided.of(_think_ratio(samples)),
        source=f"by the stages of {run.name}",
        run=run.name,
        samples=samples,
        stages=stages,
    )


def of_built_in() -> Known:
    """Of the pair that comes with mull."""
    ratio = tiny.THINK_RATIO
    efforts = efforts_of(fit_transition(list(ratio), list(ratio.values())))
    source = "by the stages of the built-in pair"
    return Known(efforts=efforts, undecided=Undecided.of(ratio), source=source, built_in=True)


def _think_ratio(samples: Sequence[Sample]) -> dict[float, float]:
    """The share of responses with a thought, by λ."""
    kinds: dict[float, list[bool]] = {}
    for sample in samples:
        if sample.lam is not None:
            kinds.setdefault(sample.lam, []).append(sample.thinking != "none")
    return {lam: sum(thinks) / len(thinks) for lam, thinks in kinds.items()}
