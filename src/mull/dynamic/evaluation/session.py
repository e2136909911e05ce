"""Carries out an evaluation: one run for each benchmark in a folder, and one comparison of all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mull.benchmarks import Benchmark, Grade, Question, answer_form
from mull.checkpoints.pair import Pair
from mull.dynamic.evaluation.policies import Policy, PolicyKind
from mull.dynamic.evaluation.result import Records, Result, compared
from mull.dynamic.evaluation.sampling import Sampler
from mull.dynamic.training.records import text_hash
from mull.engines.base import Sampling
from mull.engines.local.engine import LocalEngine
from mull.errors import MullError
from mull.runs.plan import StudyKind, SweepPlan
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


def unseen(benchmarks: Sequence[Benchmark], seen: frozenset[str], head: str) -> list[Benchmark]:
    """The benchmarks without the questions in `seen` (`Head.seen`), which the file `head` was trained on.

    Raises `MullError` where fewer than `FEWEST` questions of a benchmark are left.
    """
    found: list[Benchmark] = []
    for benchmark in benchmarks:
        own = Unseen(benchmark, seen, head)
        if len(own.questions()) < FEWEST:
            raise MullError(
                f"of {counted(len(benchmark.questions()), 'question')} of {benchmark.name}, "
                f"{len(own.questions())} are unknown to the head",
                "evaluate on other questions (--question-seed, another benchmark) than those of the training runs",
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
    records = []
    for benchmark in evaluation.benchmarks:
        plan = evaluation.plan(benchmark)
        with RunStore.open(folder / benchmark.name) as store:
            records.append(Records.of(store, benchmark.name, planned(plan, store.samples(texts=False))))
    kinds: dict[str, PolicyKind] = {policy.label: policy.kind for policy in evaluation.policies}
    return compared(records, kinds, prefill_weight=prefill_weight)


def _is_complete(plan: SweepPlan, run: Path) -> bool:
    if not (run / DATABASE).exists():
        return False
    with RunStore.open(run) as store:
        store.grown(plan, provenance(plan))
        return len(planned(plan, store.samples(texts=False))) == plan.total
