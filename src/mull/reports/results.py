"""Everything a report says about one run, computed once from its store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from mull.analysis.frontier import Frontier, non_dominated, points_of
from mull.analysis.metrics import SettingMetrics, by_numbers, by_stratum, metrics
from mull.analysis.paired import Contrast, compare
from mull.analysis.records import Sample, by_benchmark, of_every_benchmark
from mull.analysis.stages import Stages, stages_of_samples
from mull.analysis.summary import plain_words
from mull.benchmarks.several import AVERAGE
from mull.errors import MullError
from mull.reports.slugs import slugs
from mull.reports.table import Table
from mull.reports.tables import benchmarks_table, metrics_table
from mull.runs.plan import benchmarks_of
from mull.runs.store import RunStore

_LADDER = ("trivial", "very easy", "easy", "medium", "moderate", "hard", "very hard", "expert")


@dataclass(frozen=True, kw_only=True)
class Results:
    """The findings of one run, on one benchmark or on average over several."""

    benchmark: str
    """Of several all names, with commas between."""
    folder: Path
    """Of the run, where the texts are."""
    plan: dict[str, Any]
    provenance: dict[str, Any]
    questions: dict[str, dict[str, str]]
    samples: Sequence[Sample]
    """Without their texts, which may be too many to hold."""
    planned: int
    """Responses in the whole plan; more than `samples` while the run is incomplete."""
    metrics: list[SettingMetrics]
    strata: dict[str, list[SettingMetrics]]
    """By difficulty, easy to hard; empty where the questions have one stratum only."""
    stages: Stages | None
    """None without any setting that has a λ."""
    frontier: Frontier
    to_last: list[Contrast]
    """Each other setting against the highest λ, Thinking in a full sweep; of a study against its first setting."""
    neighbours: list[Contrast]
    """Each λ against the next lower one."""
    words: str
    parts: Mapping[str, Results] = field(default_factory=dict)
    """Of several benchmarks the findings on each, those that have responses; empty where there is one."""
    part: str = ""
    """Of several benchmarks the one that this is about, as an address on a page."""

    @property
    def table(self) -> Table:
        """One row per setting with every metric, of several benchmarks the average first and then each; ● marks the
        frontier."""
        if not self.parts:
            return metrics_table(self.benchmark, {"": self.metrics}, self.frontier)
        each = {AVERAGE: self.metrics, **{name: part.metrics for name, part in self.parts.items()}}
        return benchmarks_table(each, self.frontier)

    @property
    def sweep(self) -> list[SettingMetrics]:
        """The settings with a λ, by rising λ; none of a study that has but one."""
        return _sweep(self.metrics)

    @property
    def best(self) -> SettingMetrics:
        """The most accurate setting; among equals the one with the fewest tokens."""
        return max(self.metrics, key=lambda m: (m.mean_at_k.value, -m.tokens.value))

    @property
    def nothing_right(self) -> bool:
        """Whether no response of any setting is right, so that none can be called the most accurate."""
        return not any(m.mean_at_k.value for m in self.metrics)

    @property
    def complete(self) -> bool:
        return len(self.samples) >= self.planned

    @property
    def title(self) -> str:
        """`INSTRUCT → THINKING`, by the names on record; from servers the models of the first and the last λ."""
        models = [entry["model"] for entry in self.plan.get("models", {}).values()]
        if models:
            return " → ".join(dict.fromkeys([models[0], models[-1]]))
        names = [str(self.provenance.get(side) or side.title()) for side in ("instruct", "thinking")]
        sides = [
            name if name.count("/") == 1 else Path(name).name for name in names
        ]  # a hub id, or a folder's own name
        return " → ".join(sides)


def results(store: RunStore, k: int | None = None) -> Results:
    """Compute all findings of a run.

    Raises `MullError` where the run holds no response yet, of several benchmarks no setting with responses to each, and
    for a `k` above the samples per question.
    """
    samples = store.samples(texts=False)
    if not samples:
        raise MullError(f"the run in {store.folder} holds no response yet", "start it with `mull sweep`, then report")
    plan, questions, names = store.plan, store.questions, benchmarks_of(store.plan)
    if not names:
        return _results(store, samples, plan, questions, k, samples[0].benchmark)
    comparable = of_every_benchmark(samples, names)
    if not comparable:
        what = f"no setting of {store.folder} has responses to each of {plan['benchmark']['name']} yet"
        raise MullError(what, "let the sweep go on")
    whole = _results(store, comparable, plan, questions, k, plan["benchmark"]["name"])
    addresses, parts = dict(zip(names, slugs(names), strict=True)), {}
    for name, own in by_benchmark(samples).items():
        limit = plan.get("limits", {}).get(name, plan["sampling"]["max_tokens"])
        record = {"benchmark": plan["benchmark"]["parts"][name], "sampling": {**plan["sampling"], "max_tokens": limit}}
        asked = {key: about for key, about in questions.items() if about["benchmark"] == name}
        found = _results(store, own, {**plan, **record}, asked, k, name)
        parts[name] = replace(found, part=f"{addresses[name]}-")
    return replace(whole, parts=parts)


def _results(
    store: RunStore,
    samples: Sequence[Sample],
    plan: dict[str, Any],
    questions: dict[str, dict[str, str]],
    k: int | None,
    benchmark: str,
) -> Results:
    """The findings of these samples."""
    found = metrics(samples, k)
    sweep = _sweep(found)
    stages = stages_of_samples(samples) if sweep else None
    reference = sweep[-1] if sweep else min(found, key=lambda m: list(plan["settings"]).index(m.setting))
    return Results(
        benchmark=benchmark,
        folder=store.folder,
        plan=plan,
        provenance=store.provenance,
        questions=questions,
        samples=samples,
        planned=len(plan["settings"]) * len(questions) * plan["k"],
        metrics=found,
        strata=_strata(samples, k),
        stages=stages,
        frontier=non_dominated(points_of(found), samples),
        to_last=compare(samples, [(m.setting, reference.setting) for m in found if m is not reference]),
        neighbours=compare(samples, [(above.setting, below.setting) for below, above in pairwise(sweep)]),
        words=plain_words(found, stages, samples) if stages else _study_words(found, reference),
    )


def _sweep(found: Sequence[SettingMetrics]) -> list[SettingMetrics]:
    with_lam = [m for m in found if m.lam is not None]
    return with_lam if len(with_lam) > 1 or len(found) == 1 else []


def _study_words(found: Sequence[SettingMetrics], reference: SettingMetrics) -> str:
    if len(found) < 2:
        return "One setting was measured."
    return f"A study of {len(found)} settings on the same questions; differences are against {reference.setting}."


def _strata(samples: Sequence[Sample], k: int | None) -> dict[str, list[SettingMetrics]]:
    # Strata may have fewer samples per question than k while a run is incomplete.
    names = {sample.stratum for sample in samples}
    if len(names) < 2 or len({sample.benchmark for sample in samples}) > 1:
        return {}
    try:
        found = by_stratum(samples, k)
    except MullError:
        found = by_stratum(samples)
    return {name: found[name] for name in sorted(found, key=_difficulty)}


def _difficulty(name: str) -> tuple[int, list[tuple[int, str]]]:
    """Easy to hard where the names say so, else as a person sorts: level 2 before level 10."""
    known = _LADDER.index(name.lower()) if name.lower() in _LADDER else len(_LADDER)
    return known, by_numbers(name)
