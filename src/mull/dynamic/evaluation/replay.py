"""Compares estimators on the records of a λ grid: no response is sampled, so that another estimator costs seconds.

What is new is measured: an estimator's probes are run, and charged. What follows is taken from the run: a question's
accuracy and tokens at λ(q) are interpolated between the neighbouring λ of the grid (see `grid`). The oracle chooses by
one half of a question's samples and is judged by the other, so that its luck does not count. Static λ and thinking
budgets are those of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mull.analysis.records import Sample
from mull.benchmarks import AnswerForm, Question, answer_form
from mull.benchmarks.dataset import conversation
from mull.checkpoints.pair import Pair
from mull.dynamic.base import Need, Signals
from mull.dynamic.estimators.random import Random
from mull.dynamic.evaluation import signals
from mull.dynamic.evaluation.comparison import Means, Table, pooled, question_means, table
from mull.dynamic.evaluation.grid import Grid
from mull.dynamic.evaluation.policies import Policy, PolicyKind
from mull.dynamic.evaluation.result import Result
from mull.dynamic.evaluation.sampling import best_on_record
from mull.dynamic.evaluation.sensitivity import Measured
from mull.dynamic.evaluation.session import FEWEST
from mull.dynamic.probing.engine import RowEngine
from mull.dynamic.probing.local import measure
from mull.dynamic.training.records import text_hash
from mull.errors import MullError
from mull.runs.plan import refuse_several
from mull.runs.sessions.observer import Observer
from mull.runs.settings import Route
from mull.runs.store import RunStore
from mull.words import counted, listed


@dataclass(frozen=True, kw_only=True, eq=False)
class Recorded:
    """The responses of one benchmark on record, without the questions that a head has seen."""

    name: str
    folder: Path
    pair: Mapping[str, str]
    """Hashes of both sides."""
    form: AnswerForm
    messages: Mapping[str, list[dict[str, str]]]
    """Of each question that is kept."""
    samples: Sequence[Sample]
    """Static λ and thinking budgets, without texts."""
    lams: Sequence[float]
    budgets: Sequence[str]
    """Labels of the settings with a thinking budget."""

    @classmethod
    def read(cls, folder: Path, seen: frozenset[str] = frozenset()) -> Recorded:
        """The questions of a run that have samples at all its λ and budgets and are not in `seen` (`Head.seen`).

        Raises:
            MullError: a run of servers, without both ends of the pair, or with fewer than `FEWEST` such questions.
        """
        with RunStore.open(folder) as store:
            plan, questions = store.plan, store.questions
            refuse_several(plan, folder, "a replay compares policies on each by itself")
            if "instruct" not in plan:
                raise MullError(f"{folder} was answered by servers, which do not name their weights", "give other runs")
            budgets = [label for label, record in plan["settings"].items() if _is_budget(label, record)]
            samples = [s for s in store.each(texts=False) if s.setting in budgets or _is_static(s)]
        lams = sorted({sample.lam for sample in samples if sample.lam is not None})
        if not lams or lams[0] != 0 or lams[-1] != 1:
            known = ", ".join(f"{lam:g}" for lam in lams) or "none"
            raise MullError(f"{folder} lacks an end of the pair; its λ: {known}", "sweep λ = 0 and λ = 1, too")
        answered = [{s.question for s in samples if s.setting == each} for each in {s.setting for s in samples}]
        complete = set.intersection(*answered)
        kept = {key for key in complete if text_hash(questions[key]["text"]) not in seen}
        if len(kept) < FEWEST:
            trained = f", of which {len(complete) - len(kept)} trained the head" if len(complete) > len(kept) else ""
            raise MullError(
                f"{folder} has {counted(len(complete), 'question')} with samples at all its λ{trained}",
                f"sweep {FEWEST} others at least (--question-seed, another benchmark), or let the run finish",
            )
        record = plan["benchmark"]
        return cls(
            name=record["name"],
            folder=folder,
            pair={side: str(plan[side]) for side in ("instruct", "thinking")},
            form=answer_form(record),
            messages={key: _messages(key, questions[key], record) for key in questions if key in kept},
            samples=[sample for sample in samples if sample.question in kept],
            lams=lams,
            budgets=budgets,
        )

    @property
    def has_halves(self) -> bool:
        """Whether every question has two samples at every λ, one to choose by and one to judge by."""
        return all(set(Grid.of(half).questions) == self.messages.keys() for half in _halves(self.samples))

    @property
    def k(self) -> int:
        """Fewest samples of a question at a λ."""
        counts: dict[tuple[str, str], int] = {}
        for sample in self.samples:
            counts[sample.question, sample.setting] = counts.get((sample.question, sample.setting), 0) + 1
        return min(counts.values())


@dataclass(frozen=True, kw_only=True, eq=False)
class Replay:
    """What is compared, on which records."""

    pair: Pair
    benchmarks: Sequence[Recorded]
    policies: Sequence[Policy]
    """Static λ and budgets that all runs have, estimators, and what stands beside them."""

    @property
    def k(self) -> int:
        return min(each.k for each in self.benchmarks)

    @property
    def source(self) -> str:
        """What tables and page say."""
        return f"replayed from {listed([str(each.folder) for each in self.benchmarks])}, not sampled"


@dataclass(frozen=True, kw_only=True, eq=False)
class Replayed:
    """The comparison, and what the study of the constants needs."""

    result: Result
    measured: Sequence[Measured]


def recorded(runs: Sequence[Path], seen: frozenset[str] = frozenset()) -> list[Recorded]:
    """The records of `runs`, each of another benchmark and all of one pair. Raises `MullError` if they are not."""
    found = [Recorded.read(run, seen) for run in runs]
    for run in found:
        twin = next(other for other in found if other.name == run.name)
        if twin is not run:
            raise MullError(f"{twin.folder} and {run.folder} are both of {run.name}", "give one run for each benchmark")
        if run.pair != found[0].pair:
            raise MullError(f"{run.folder} is of another pair than {found[0].folder}", "give runs of one pair")
    return found


def common(runs: Sequence[Recorded]) -> tuple[list[float], list[str]]:
    """The λ and the budgets that all runs have."""
    lams = [lam for lam in runs[0].lams if all(lam in run.lams for run in runs)]
    return lams, [label for label in runs[0].budgets if all(label in run.budgets for run in runs)]


def replay(
    asked: Replay, load: Callable[[], RowEngine], observer: Observer | None = None, *, prefill_weight: float = 0.0
) -> Replayed:
    """Measures what the estimators need and compares them on the records; `load` makes the engine."""
    observer = observer or Observer()
    estimators = [policy.estimator for policy in asked.policies if policy.estimator is not None]
    needs: set[Need] = set().union(*(estimator.needs for estimator in estimators))
    needs |= set(signals.ENDS) if signals.wanted(asked.policies) else set()
    measured: list[Measured] = []
    engine: RowEngine | None = None
    for run in asked.benchmarks:
        if needs and engine is None:
            with observer.busy("loading the checkpoints"):
                engine = load()
        found = {key: Signals(query=key) for key in run.messages}
        if engine is not None:
            with observer.counting(f"{run.name}: choosing λ", len(found)) as advance:
                for each in measure(engine, _rendered(engine, run), needs, run.form):
                    found[each.query] = each
                    advance(1)
        measured.append(Measured(benchmark=run.name, grid=Grid.of(run.samples), signals=found))
    return Replayed(result=_compared(asked, measured, prefill_weight), measured=measured)


def _rendered(engine: RowEngine, run: Recorded) -> dict[str, tuple[int, ...]]:
    return {key: engine.render(messages) for key, messages in run.messages.items()}


def _compared(asked: Replay, measured: Sequence[Measured], prefill_weight: float) -> Result:
    kinds: dict[str, PolicyKind] = {policy.label: policy.kind for policy in asked.policies}
    routes: dict[str, dict[str, dict[str, Route]]] = {}
    means: dict[str, dict[str, Means]] = {}
    lams: dict[str, dict[str, float]] = {}
    for run, own in zip(asked.benchmarks, measured, strict=True):
        routes[run.name], means[run.name] = _routed(asked.policies, run, own)
        lams[run.name] = {
            label: float(np.mean([route.lam for route in chosen.values()]))
            for label, chosen in routes[run.name].items()
        }
    if len(means) > 1:
        every = list(lams.values())
        average = {label: float(np.mean([own[label] for own in every])) for label in every[0]}
        lams, means = {"average": average, **lams}, {"average": pooled(list(means.values())), **means}
    tables: list[Table] = []
    for name, own in means.items():
        found = table(name, own, kinds, lams=lams[name], prefill_weight=prefill_weight)
        tables.append(replace(found, source=asked.source))
    return Result({run.name: list(run.samples) for run in asked.benchmarks}, tables, routes, means)


def _routed(
    policies: Sequence[Policy], run: Recorded, measured: Measured
) -> tuple[dict[str, dict[str, Route]], dict[str, Means]]:
    """The λ(q) of every policy that chooses one, and every policy's means by question."""
    grid = measured.grid
    static, budgets = grid.static(), question_means(run.samples, {})
    routes: dict[str, dict[str, Route]] = {}
    means: dict[str, Means] = {}
    for policy in policies:
        if policy.kind == "static":
            means[policy.label] = static[policy.label]
        elif policy.kind == "budget":
            means[policy.label] = budgets[policy.label]
        elif policy.kind == "oracle":
            routes[policy.label], means[policy.label] = _oracle(run.samples)
        else:
            estimator = policy.estimator
            if policy.of is not None:
                estimator = Random({key: route.lam for key, route in routes[policy.of].items()}, policy.of)
            assert estimator is not None
            choices = {key: estimator.choose(measured.signals[key]) for key in grid.questions}
            own = {key: Route(choice.lam, choice.why, *choice.cost) for key, choice in choices.items()}
            routes[policy.label], means[policy.label] = own, grid.routed(own)
    return routes, means


def _oracle(samples: Sequence[Sample]) -> tuple[dict[str, Route], Means]:
    """The best λ by one half of a question's samples, judged by the other; the mean of both ways."""
    halves = _halves(samples)
    grids = [Grid.of(half) for half in halves]
    found: list[tuple[dict[str, Route], Means]] = []
    for own, other in ((0, 1), (1, 0)):
        best = best_on_record(halves[other]).lams
        chosen = {key: Route(best[key], "the best by the other half of the samples") for key in grids[own].questions}
        found.append((chosen, grids[own].routed(chosen)))
    (first, a), (second, b) = found
    both = {key: route._replace(lam=(route.lam + second[key].lam) / 2) for key, route in first.items()}
    return both, Means((a.accuracy + b.accuracy) / 2, (a.tokens + b.tokens) / 2, a.prefilled, a.benchmark)


def _halves(samples: Sequence[Sample]) -> list[list[Sample]]:
    return [[sample for sample in samples if sample.index % 2 == half] for half in (0, 1)]


def _is_static(sample: Sample) -> bool:
    return sample.lam is not None and 0 <= sample.lam <= 1


def _is_budget(label: str, record: Mapping[str, Any]) -> bool:
    """Whether a setting is the Thinking end under a thinking budget (`Setting.budgeted`)."""
    budget = (record.get("sampling") or {}).get("thinking_budget")
    return budget is not None and label == f"Thinking, budget {budget}"


def _messages(key: str, question: Mapping[str, str], record: Mapping[str, Any]) -> list[dict[str, str]]:
    asked = Question(id=key, text=question["text"], gold=question["gold"], stratum=question["stratum"])
    return conversation(asked, record.get("prompt"), record.get("system"))
