"""Carries out an evaluation: one run for each benchmark in a folder, and one comparison of all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mull.analysis.records import Sample
from mull.benchmarks import Benchmark, Grade, Question, answer_form
from mull.checkpoints.pair import Pair
from mull.dynamic.evaluation.comparison import Means, Table, pooled, question_means, table
from mull.dynamic.evaluation.policies import Policy, PolicyKind
from mull.dynamic.evaluation.sampling import Sampler
from mull.dynamic.training.records import text_hash
from mull.engines.base import Sampling
from mull.engines.local.engine import LocalEngine
from mull.errors import MullError
from mull.runs.plan import StudyKind, SweepPlan
from mull.runs.routes import Route
from mull.runs.run import planned, provenance
from mull.runs.sessions.observer import Observer
from mull.runs.store import DATABASE, RunStore
from mull.words import counted

FEWEST = 10
"""Questions of a benchmark that must be left after those that were trained on."""


class Unseen:
    """A benchmark without the questions that trained or fitted an estimator."""

    def __init__(self, whole: Benchmark, seen: frozenset[str], head: str) -> None:
        """`seen`: see `Head.seen`; `head`: names the head, empty for none."""
        self.whole, self.head = whole, head
        self.name, self.max_tokens = whole.name, whole.max_tokens
        self._questions = [question for question in whole.questions() if text_hash(question.text) not in seen]

    def questions(self) -> Sequence[Question]:
        return self._questions

    def prompt(self, question: Question) -> list[dict[str, str]]:
        return self.whole.prompt(question)

    def grade(self, question: Question, answer: str) -> Grade:
        return self.whole.grade(question, answer)

    def describe(self) -> dict[str, Any]:
        return {**self.whole.describe(), **({"unseen_by": self.head} if self.head else {})}


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What is compared, on what."""

    pair: Pair
    benchmarks: Sequence[Benchmark]
    policies: Sequence[Policy]
    k: int
    sampling: Callable[[Benchmark], Sampling]
    arithmetic: str
    """Of the engine, for plans (`mull.engines.local.arithmetic`): that of a λ per row."""
    seed: int = 0

    def plan(self, benchmark: Benchmark) -> SweepPlan:
        return SweepPlan(
            self.pair,
            [policy.setting() for policy in self.policies],
            benchmark,
            self.k,
            self.sampling(benchmark),
            self.seed,
            engine=self.arithmetic,
            study=StudyKind.other,
        )


@dataclass(frozen=True)
class Result:
    """The records of an evaluation and what they say."""

    samples: Mapping[str, list[Sample]]
    """By benchmark, without texts."""
    tables: Sequence[Table]
    """One for each benchmark; of several also one of all together, called "average", which comes first."""
    routes: Mapping[str, Mapping[str, Mapping[str, Route]]]
    """Benchmark → policy → question → the λ that was chosen for it."""
    means: Mapping[str, Mapping[str, Means]]
    """Benchmark → policy → means by question; "average" for all together, where there are several."""


def unseen(benchmarks: Sequence[Benchmark], seen: frozenset[str], head: str) -> list[Benchmark]:
    """The benchmarks without the questions in `seen` (`Head.seen`), which the file `head` was trained on.

    Raises `MullError` where fewer than `FEWEST` questions of a benchmark are left.
    """
    found: list[Benchmark] = []
    for benchmark in benchmarks:
        own = Unseen(benchmark, seen, head)
        if len(own.questions()) < FEWEST:
            raise MullError(
                f"of {counted(len(benchmark.questions()), 'question')} of {benchmark.name} the head has not seen "
                f"{len(own.questions())}, and an evaluation needs {FEWEST}",
                "ask more questions, or others than those of the training runs (--question-seed, another benchmark)",
            )
        found.append(own)
    return found


def evaluate(
    evaluation: Evaluation, folder: Path, load: Callable[[], LocalEngine], observer: Observer | None = None
) -> Result:
    """Samples what the runs in `folder` lack and compares the policies.

    `load` makes an engine whose rows have a λ each; it is called if anything is missing. May be stopped at any moment;
    the same call goes on.

    Raises:
        MullError: a run in the folder has another plan, or the engine cannot be made or fails.
    """
    observer = observer or Observer()
    for benchmark in evaluation.benchmarks:
        if len(benchmark.questions()) < 2:
            raise MullError(f"{benchmark.name} has one question, and intervals need two", "ask more questions")
    engine: LocalEngine | None = None
    for benchmark in evaluation.benchmarks:
        plan = evaluation.plan(benchmark)
        run = folder / benchmark.name
        RunStore.check_folder(run)
        if _is_complete(plan, run):
            continue
        if engine is None:
            with observer.busy("loading the checkpoints"):
                engine = load()
        with RunStore.record(run, plan, provenance(plan)) as store:
            sampler = Sampler(
                plan=plan,
                policies=evaluation.policies,
                engine=engine,
                form=answer_form(benchmark.describe()),
                store=store,
            )
            lacking = sum(sampler.lacking().values())
            if lacking:
                with observer.counting(f"{benchmark.name}: choosing λ", lacking) as advance:
                    sampler.choose(advance)
            with observer.sweeping(plan, planned(plan, store.samples(texts=False))) as on_sample:
                sampler.run(on_sample)
    return compare(evaluation, folder)


def compare(evaluation: Evaluation, folder: Path, *, prefill_weight: float = 0.0) -> Result:
    """The comparison of what the runs in `folder` hold."""
    found: dict[str, dict[str, Means]] = {}
    samples: dict[str, list[Sample]] = {}
    every_route: dict[str, dict[str, dict[str, Route]]] = {}
    walls: list[dict[str, float]] = []
    lams: list[dict[str, float]] = []
    for benchmark in evaluation.benchmarks:
        plan = evaluation.plan(benchmark)
        with RunStore.open(folder / benchmark.name) as store:
            own = planned(plan, store.samples(texts=False))
            routes = store.routes
            own_walls = {label: wall.seconds / wall.responses for label, wall in store.walls.items() if wall.responses}
        prefilled = {
            (label, question): float(route.prefilled)
            for label, row in routes.items()
            for question, route in row.items()
        }
        samples[benchmark.name], every_route[benchmark.name] = own, routes
        found[benchmark.name] = question_means(own, prefilled)
        walls.append(own_walls)
        chosen = {label: [route.lam for route in row.values()] for label, row in routes.items()}
        lams.append({label: sum(row) / len(row) for label, row in chosen.items() if row})
    kinds: dict[str, PolicyKind] = {policy.label: policy.kind for policy in evaluation.policies}
    tables = [
        table(name, own, kinds, seconds=wall, lams=lam, prefill_weight=prefill_weight)
        for (name, own), wall, lam in zip(found.items(), walls, lams, strict=True)
    ]
    if len(found) > 1:
        found = {"average": pooled(list(found.values())), **found}
        wall, lam = _averaged(walls), _averaged(lams)
        every = found["average"]
        tables = [table("average", every, kinds, seconds=wall, lams=lam, prefill_weight=prefill_weight), *tables]
    return Result(samples, tables, every_route, found)


def _averaged(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means of the entries that all parts have."""
    shared = set.intersection(*(set(part) for part in parts))
    return {key: sum(part[key] for part in parts) / len(parts) for key in shared}


def _is_complete(plan: SweepPlan, run: Path) -> bool:
    if not (run / DATABASE).exists():
        return False
    with RunStore.open(run) as store:
        store.grown(plan, provenance(plan))
        return len(planned(plan, store.samples(texts=False))) == plan.total
