"""Carries out an evaluation: one run for each benchmark in a folder, and one comparison of all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mull.benchmarks import Benchmark, Grade, Question, answer_form
from mull.checkpoints.pair import Pair
from mull.dynamic.evaluation import signals
from mull.dynamic.evaluation.policies import Policy, PolicyKind
from mull.dynamic.evaluation.result import Records, Result, compared
from mull.dynamic.evaluation.sampling import Sampler, with_system
from mull.dynamic.head import Head
from mull.dynamic.probing.engine import RowEngine
from mull.dynamic.training.records import text_hash
from mull.engines.base import Sampling
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

    def policies_on(self, benchmark: Benchmark) -> list[Policy]:
        return [policy.sampled(self.sampling(benchmark)) for policy in self.policies]

    def plan(self, benchmark: Benchmark) -> SweepPlan:
        return SweepPlan(
            self.pair,
            [policy.setting() for policy in self.policies_on(benchmark)],
            benchmark,
            self.k,
            self.sampling(benchmark),
            self.seed,
            engine=self.arithmetic,
            study=StudyKind.other,
        )


def refuse_training_seed(benchmarks: Sequence[Benchmark], head: Head) -> None:
    """Raises `MullError` for a benchmark that makes its questions with the seed of the head's training: what is left of
    them after the training questions would be no benchmark that anybody else has."""
    trained = [record for record in head.report.get("benchmarks", {}).values() if "seed" in record]
    for benchmark in benchmarks:
        own = benchmark.describe()
        if any(own.get("seed") == each["seed"] and own.get("split") == each.get("split") for each in trained):
            raise MullError(
                f"the head was trained on questions of --question-seed {own['seed']}, and {benchmark.name} would ask "
                "them again",
                "give another --question-seed",
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
                f"of {counted(len(benchmark.questions()), 'question')} of {benchmark.name} the head has not seen "
                f"{len(own.questions())}, and an evaluation needs {FEWEST}",
                "ask more questions, or others than those of the training runs (--question-seed, another benchmark)",
            )
        found.append(own)
    return found


MARGIN = 40
"""Tokens of the context that must be left behind a prompt: for the text that forces an answer, and that answer."""


def check_prompts(evaluation: Evaluation, engine: RowEngine) -> None:
    """Raises `MullError` for a question that leaves no room for an answer in the model's context."""
    for benchmark in evaluation.benchmarks:
        for question in benchmark.questions():
            asked = benchmark.prompt(question)
            systems = {policy.system for policy in evaluation.policies}
            length = max(len(engine.render(with_system(asked, system))) for system in systems)
            if length + MARGIN > engine.context:
                raise MullError(
                    f"the question {question.id} of {benchmark.name} takes {length:,} tokens, and the model's context "
                    f"is {engine.context:,}",
                    "ask fewer questions (--questions), or choose a model with a longer context",
                )


def evaluate(
    evaluation: Evaluation, folder: Path, load: Callable[[], RowEngine], observer: Observer | None = None
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
    engine: RowEngine | None = None
    for benchmark in evaluation.benchmarks:
        plan = evaluation.plan(benchmark)
        run = folder / benchmark.name
        RunStore.check_folder(run)
        if _is_complete(plan, run, evaluation.policies):
            continue
        if engine is None:
            with observer.busy("loading the checkpoints"):
                engine = load()
                check_prompts(evaluation, engine)
        with RunStore.record(run, plan, provenance(plan)) as store:
            sampler = Sampler(
                plan=plan,
                policies=evaluation.policies_on(benchmark),
                engine=engine,
                form=answer_form(benchmark.describe()),
                store=store,
            )
            lacking = sum(sampler.lacking().values())
            if lacking:
                with observer.counting(f"{benchmark.name}: choosing λ", lacking) as advance:
                    sampler.choose(advance)
            sampler.keep_signals()
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


def _is_complete(plan: SweepPlan, run: Path, policies: Sequence[Policy]) -> bool:
    if not (run / DATABASE).exists():
        return False
    with RunStore.open(run) as store:
        store.grown(plan, provenance(plan))
        if signals.wanted(policies) and signals.lacking(store, [q.id for q in plan.benchmark.questions()]):
            return False
        return len(planned(plan, store.samples(texts=False))) == plan.total
