"""Several run folders as one set of studies: recognised by their plans, refused where they do not belong together.

The runs of an evaluation of λ per query are a study, too, which stands apart from the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

from mull.analysis.by_question import Scored, by_question, fewest_samples
from mull.analysis.metrics import SettingMetrics, metrics
from mull.analysis.records import Sample
from mull.dynamic.evaluation.result import Records, Result, compared, kinds_of
from mull.errors import MullError
from mull.runs.paper.kinds import lambda_of
from mull.runs.plan import StudyKind, differences, refuse_several
from mull.runs.store import DATABASE, RunStore

OWN_INSTRUCT = "instruct, own sampling"
"""Label of the Instruct end where a sweep of its own samples it differently, as the paper does."""
BENCHMARKS = ("aime25", "ifeval", "gpqa")
"""The paper's."""
_COMPARED = (StudyKind.sweep, StudyKind.compare)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run folder, without the texts of its responses."""

    folder: Path
    kind: StudyKind
    benchmark: str
    plan: dict[str, Any]
    provenance: dict[str, Any]
    questions: int
    samples: Sequence[Sample]
    records: Records | None = None
    """Of a run of `mull route eval`, which has the kind `other`."""

    @property
    def planned(self) -> int:
        """Responses of the whole plan."""
        return len(self.plan["settings"]) * self.questions * self.plan["k"]

    @property
    def complete(self) -> bool:
        return len(self.samples) >= self.planned

    @property
    def name(self) -> str:
        """As captions call it."""
        share = "" if self.complete else f" (incomplete: {100 * len(self.samples) / self.planned:.0f} %)"
        return f"{self.folder.resolve().name}{share}"

    @property
    def policies(self) -> dict[str, dict[str, Any]]:
        """Setting → what decides its responses beside weights and sampling; nothing of a static λ."""
        return {setting: record.get("policy") or {} for setting, record in self.plan["settings"].items()}

    @cached_property
    def metrics(self) -> dict[str, SettingMetrics]:
        """Setting → its metrics, in the order of the plan."""
        found = {m.setting: m for m in _metrics(self.samples)}
        return {setting: found[setting] for setting in self.plan["settings"] if setting in found}

    @cached_property
    def scored(self) -> dict[str, dict[str, Scored]]:
        """Setting → question → values."""
        return by_question(self.samples)

    @property
    def reference(self) -> str:
        """What the settings of an ablation are compared with: the first, which is the whole interpolation."""
        return next(iter(self.metrics))


@dataclass(frozen=True, kw_only=True)
class Arena:
    """All that answered the same questions of one benchmark: a sweep, a comparison, the Instruct end by itself."""

    benchmark: str
    runs: Sequence[Run]

    @cached_property
    def samples(self) -> list[Sample]:
        """Of all runs; a setting that two runs have counts once, from the one with more of it, of equals the sweep."""
        found: dict[str, list[Sample]] = {}
        for run in sorted(self.runs, key=lambda run: run.kind != StudyKind.sweep):
            own: dict[str, list[Sample]] = {}
            for sample in run.samples:
                own.setdefault(sample.setting, []).append(sample)
            found |= {setting: rows for setting, rows in own.items() if len(rows) > len(found.get(setting, []))}
        return [sample for rows in found.values() for sample in rows]

    @property
    def complete(self) -> bool:
        """Whether every setting of the runs has all of its responses in one of them."""
        settings = {setting for run in self.runs for setting in run.plan["settings"]}
        run = self.runs[0]  # all have the same questions and k
        return len(self.samples) >= len(settings) * run.questions * run.plan["k"]

    @cached_property
    def metrics(self) -> list[SettingMetrics]:
        """By rising λ, settings without λ last."""
        return _metrics(self.samples)

    @cached_property
    def scored(self) -> dict[str, dict[str, Scored]]:
        return by_question(self.samples)

    @property
    def sweep(self) -> list[SettingMetrics]:
        """The settings with a λ; none unless there are two."""
        found = [m for m in self.metrics if m.lam is not None]
        return found if len(found) > 1 else []

    @property
    def name(self) -> str:
        """The run folders, as captions call them."""
        return ", ".join(run.name for run in self.runs)


@dataclass(frozen=True, kw_only=True)
class Studies:
    """What the given runs hold."""

    runs: Sequence[Run]

    @cached_property
    def arenas(self) -> list[Arena]:
        """One per benchmark that was swept or compared: the paper's in its order, then others in that of the runs."""
        compared = [run for run in self.runs if run.kind in _COMPARED]
        names = dict.fromkeys(run.benchmark for run in compared)
        names = sorted(names, key=lambda name: BENCHMARKS.index(name) if name in BENCHMARKS else len(BENCHMARKS))
        return [Arena(benchmark=name, runs=[r for r in compared if r.benchmark == name]) for name in names]

    def of(self, kind: StudyKind) -> list[Run]:
        """The runs of one kind."""
        return [run for run in self.runs if run.kind == kind]

    @property
    def routed(self) -> list[Run]:
        """The runs of an evaluation of λ per query, one for each benchmark."""
        return self.of(StudyKind.other)

    @cached_property
    def routing(self) -> Result | None:
        """What that evaluation found; None without one, and while it is incomplete: its policies are sampled one after
        the other."""
        if not self.routed or not all(run.complete for run in self.routed):
            return None
        return compared([run.records for run in self.routed if run.records], kinds_of(self.routed[0].plan))


def _metrics(samples: Sequence[Sample]) -> list[SettingMetrics]:
    """With one k of Pass@k for all settings, as `by_question` has it."""
    return metrics(samples, fewest_samples(samples))


def open_runs(folders: Sequence[Path]) -> Studies:
    """Read the runs in `folders`; the folder of an evaluation of λ per query stands for the runs in it.

    Raises:
        MullError: a folder without a run or without responses, a run that is none of these studies, the same run twice,
            two of one kind on one benchmark, runs of different pairs or donors, a sweep and a comparison of one
            benchmark that differ in more than their settings, and runs of different evaluations of λ per query.
    """
    if not folders:
        verbs = "`mull sweep`, `mull compare`, `mull ablate` and `mull route eval`"
        raise MullError("no run is named", f"give the folders of {verbs}")
    runs = [_read(run) for folder in folders for run in _runs_in(folder)]
    for a, b in combinations(runs, 2):
        _check_same(a, b)
    runs = _name_own_instruct(runs)
    for a, b in combinations(runs, 2):
        _check_together(a, b)
    return Studies(runs=runs)


def _runs_in(folder: Path) -> list[Path]:
    """`folder`, or the runs below it if it is the folder of an evaluation."""
    if (folder / DATABASE).exists() or not folder.is_dir():
        return [folder]
    return [run for run in sorted(folder.iterdir()) if (run / DATABASE).is_file() and _has_policies(run)] or [folder]


def _has_policies(run: Path) -> bool:
    with RunStore.open(run) as store:
        return bool(kinds_of(store.plan))


def _read(folder: Path) -> Run:
    with RunStore.open(folder) as store:
        plan, provenance, questions = store.plan, store.provenance, len(store.questions)
        samples = store.samples(texts=False)
        refuse_several(plan, folder, "the page has a column for each run")
        benchmark = plan["benchmark"]["name"]
        records = Records.of(store, benchmark, samples) if kinds_of(plan) else None
    if not samples:
        raise MullError(f"the run in {folder} holds no response yet", "finish it with the command that began it")
    kind = StudyKind(plan["study"])
    if records is None and (kind == StudyKind.other or (kind not in _COMPARED and lambda_of(plan) is None)):
        labels = ", ".join(list(plan["settings"])[:4])
        raise MullError(
            f"the run in {folder} is none of the paper's studies (its settings: {labels})",
            f"leave it out; `mull report {folder}` shows it",
        )
    return Run(
        folder=folder,
        kind=kind,
        benchmark=benchmark,
        plan=plan,
        provenance=provenance,
        questions=questions,
        samples=samples,
        records=records,
    )


def _check_same(a: Run, b: Run) -> None:
    if a.folder.resolve() == b.folder.resolve():
        raise MullError(f"the run {a.folder} is given twice", "name it once")
    if a.plan == b.plan:
        raise MullError(f"{a.folder} and {b.folder} hold the same plan", "leave one of them out")
    sides = {side: ({}, {}) for side in ("instruct", "thinking", "donor")}
    for side in sides:
        if side in a.plan and side in b.plan:  # a run of servers has no hashes to compare
            sides[side] = ({side: a.plan[side]}, {side: b.plan[side]})
    changed = [line for old, new in sides.values() for line in differences(old, new, names=_names(a, b))]
    if changed:
        raise MullError(
            f"{a.folder} and {b.folder} are not of the same models ({'; '.join(changed)})",
            "give runs of one pair and one donor",
        )


def _names(a: Run, b: Run) -> tuple[dict[str, Any], dict[str, Any]]:
    return a.provenance, b.provenance


def _name_own_instruct(runs: Sequence[Run]) -> list[Run]:
    """A sweep of λ = 0 alone, beside another sweep or comparison, is the Instruct end sampled in its own way."""
    renamed = []
    for run in runs:
        others = [r for r in runs if r is not run and r.kind in _COMPARED and r.benchmark == run.benchmark]
        if run.kind == StudyKind.sweep and list(run.plan["settings"]) == ["0"] and others:
            samples = [replace(sample, setting=OWN_INSTRUCT, lam=None) for sample in run.samples]
            run = replace(run, samples=samples, plan={**run.plan, "settings": {OWN_INSTRUCT: {}}})
        renamed.append(run)
    return renamed


def _check_together(a: Run, b: Run) -> None:
    own = [OWN_INSTRUCT in run.plan["settings"] for run in (a, b)]
    if a.records and b.records and a.policies != b.policies:
        what = f"{a.folder} and {b.folder} compare different policies"
        raise MullError(what, "give the runs of one `mull route eval`")
    if a.benchmark != b.benchmark:
        return
    if a.kind == b.kind and own[0] == own[1]:
        raise MullError(
            f"{a.folder} and {b.folder} are both a study of {_WORDS[a.kind]} on {a.benchmark}",
            "a page shows one; make two, with different --out",
        )
    if a.kind not in _COMPARED or b.kind not in _COMPARED:
        return
    keys = ["benchmark", "questions", "k", *([] if any(own) else ["sampling"])]
    changed = differences({key: a.plan[key] for key in keys}, {key: b.plan[key] for key in keys})
    if changed:
        raise MullError(
            f"{a.folder} and {b.folder} cannot stand in one table of {a.benchmark} ({'; '.join(changed)})",
            "run one of them again as the other, or make two pages",
        )


_WORDS = {
    StudyKind.sweep: "λ",
    StudyKind.compare: "merge methods",
    StudyKind.layers: "layers",
    StudyKind.modules: "modules",
    StudyKind.decoding: "decoding",
    StudyKind.backbone: "backbones",
    StudyKind.other: "λ per query",
}
