"""Samples every policy into a run: the λ of each question is chosen and charged, the response is sampled at that λ."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mull.analysis.records import Sample
from mull.benchmarks import AnswerForm, Question
from mull.dynamic.base import Cost, Signals
from mull.dynamic.estimators.oracle import Oracle
from mull.dynamic.estimators.random import Random
from mull.dynamic.evaluation import signals
from mull.dynamic.evaluation.early_exit import respond
from mull.dynamic.evaluation.policies import Policy
from mull.dynamic.probing.engine import RowEngine
from mull.dynamic.probing.local import PromptIds, measure
from mull.engines.base import Completion, Request
from mull.runs.plan import SweepPlan
from mull.runs.run import grade, missing, planned
from mull.runs.settings import Route
from mull.runs.store import RunStore, Wall

Prompts = Mapping[str, PromptIds]


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """One benchmark's policies, an engine whose rows have a λ each, and the run that records."""

    plan: SweepPlan
    """Its settings are those of the policies, in their order."""
    policies: Sequence[Policy]
    engine: RowEngine
    form: AnswerForm
    store: RunStore

    def lacking(self) -> dict[str, int]:
        """Policy → number of questions whose λ an estimator has yet to choose."""
        known, total = self.store.routes, len(self.plan.benchmark.questions())
        estimated = [policy for policy in self.policies if policy.kind == "estimator"]
        return {policy.label: total - len(known.get(policy.label, {})) for policy in estimated}

    def choose(self, advance: Callable[[int], object]) -> None:
        """Measures every question for every estimator and records the λ that it chose; `advance(1)` after each."""
        prompts = self._rendered(None)
        for policy in self.policies:
            if policy.kind == "estimator":
                self._routes(policy, prompts, advance)

    def keep_signals(self) -> None:
        """Measures what the study of `conf`'s constants needs, for the questions that the run has no record of."""
        asked = signals.lacking(self.store, [question.id for question in self.plan.benchmark.questions()])
        if signals.wanted(self.policies) and asked:
            prompts = self._rendered(None)
            signals.keep(self.store, self.engine, {name: prompts[name] for name in asked}, self.form)

    def run(self, on_sample: Callable[[Sample], object]) -> None:
        """Samples what the run lacks, after `choose`. May be stopped at any moment: what is recorded stays, and another
        call goes on."""
        prompts: dict[str | None, Prompts] = {}
        questions = {question.id: question for question in self.plan.benchmark.questions()}
        for policy in self.policies:
            wanted = missing(self.plan, self.store, policy.setting())
            if not wanted:
                continue
            if policy.system not in prompts:
                prompts[policy.system] = self._rendered(policy.system)
            routes = self._routes(policy, prompts[policy.system])
            seconds, count, since = 0.0, 0, time.perf_counter()
            try:
                for completion, cost in self._responses(policy, wanted, prompts[policy.system], routes):
                    seconds += time.perf_counter() - since
                    sample = self._sample(policy, questions, completion, cost)
                    self.store.add(sample)
                    count += 1
                    on_sample(sample)
                    since = time.perf_counter()  # grading and recording are no part of a response
            finally:
                if count:
                    self.store.note_wall(policy.label, Wall(seconds, count))

    def _rendered(self, system: str | None) -> Prompts:
        prompts = {}
        for question in self.plan.benchmark.questions():
            messages = with_system(self.plan.benchmark.prompt(question), system)
            prompts[question.id] = self.engine.render(messages)
        return prompts

    def _routes(
        self, policy: Policy, prompts: Prompts, advance: Callable[[int], object] = lambda count: None
    ) -> Mapping[str, Route]:
        """The λ of every question, chosen where the run has none on record yet."""
        if policy.kind not in ("estimator", "random", "oracle"):
            return {name: Route(policy.lam, "") for name in prompts}
        known = self.store.routes
        own = known.setdefault(policy.label, {})
        lacking = {name: prompt for name, prompt in prompts.items() if name not in own}
        if not lacking:
            return own
        estimator = policy.estimator
        if policy.kind == "random":
            assert policy.of is not None
            estimator = Random({name: known[policy.of][name].lam for name in prompts}, policy.of)
        elif policy.kind == "oracle":
            estimator = best_on_record(planned(self.plan, self.store.samples(texts=False)))
        assert estimator is not None
        started = time.perf_counter()
        found = (
            measure(self.engine, lacking, estimator.needs, self.form)
            if estimator.needs
            else (Signals(query=name) for name in lacking)
        )
        for each in found:
            choice = estimator.choose(each)
            own[each.query] = Route(choice.lam, choice.why, *choice.cost)
            advance(1)
        self.store.note_routes(known)
        if policy.kind == "estimator":
            self.store.note_wall(policy.label, Wall(choosing=time.perf_counter() - started, chosen=len(lacking)))
        return own

    def _responses(
        self, policy: Policy, wanted: Sequence[tuple[str, int]], prompts: Prompts, routes: Mapping[str, Route]
    ) -> Iterator[tuple[Completion, Cost]]:
        sampling = policy.sampling or self.plan.sampling
        requests = [
            Request(
                id=f"{key}\n{index}",
                prompt_ids=prompts[key],
                seed=self._seed(policy, key, index),
                sampling=sampling,
                lam=routes[key].lam,
            )
            for key, index in sorted(wanted, key=lambda item: -len(prompts[item[0]]))
        ]
        if policy.early_exit is not None:
            yield from respond(self.engine, requests, policy.early_exit, self.form)
            return
        for completion in self.engine.generate(requests):
            route = routes[completion.id.rsplit("\n", 1)[0]]
            yield completion, Cost(route.generated, route.prefilled)

    def _seed(self, policy: Policy, question: str, index: int) -> int:
        # The oracle chose by the samples of the same seeds: with these its luck would be counted as knowledge.
        return self.plan.sample_seed(f"{question}/oracle" if policy.kind == "oracle" else question, index)

    def _sample(self, policy: Policy, questions: Mapping[str, Question], completion: Completion, cost: Cost) -> Sample:
        """The record of a response, the tokens of choosing its λ included."""
        key, index = completion.id.rsplit("\n", 1)
        seed = self._seed(policy, key, int(index))
        sample = grade(
            self.plan.benchmark, questions[key], completion, policy.setting(), int(index), seed, self.plan.tags
        )
        return replace(
            sample,
            tokens=sample.tokens + cost.generated,
            prompt_tokens=(sample.prompt_tokens or 0) + cost.prefilled,
        )


def with_system(messages: list[dict[str, str]], system: str | None) -> list[dict[str, str]]:
    """`messages` with `system` as their system prompt, behind their own if they have one."""
    if system is None:
        return messages
    own = [message["content"] for message in messages if message["role"] == "system"]
    rest = [message for message in messages if message["role"] != "system"]
    return [{"role": "system", "content": "\n\n".join([*own, system])}, *rest]


SHRUNK_BY = 2.0
"""Responses at the mean of its stratum that count beside a question's own."""


def best_on_record(samples: Sequence[Sample]) -> Oracle:
    """For each question the static λ that was most accurate, the shortest of equals.

    A question's accuracy is shrunk towards that of its stratum, as by `SHRUNK_BY` responses, since a few samples say
    little.
    """
    static = [sample for sample in samples if sample.lam is not None]
    by_stratum: dict[tuple[str, float], list[float]] = {}
    cells: dict[str, dict[float, list[Sample]]] = {}
    for sample in static:
        assert sample.lam is not None
        by_stratum.setdefault((sample.stratum, sample.lam), []).append(float(sample.correct))
        cells.setdefault(sample.question, {}).setdefault(sample.lam, []).append(sample)
    chosen = {}
    for question, own in cells.items():

        def worth(lam: float, own: Mapping[float, list[Sample]] = own) -> tuple[float, float]:
            rows = own[lam]
            prior = float(np.mean(by_stratum[rows[0].stratum, lam]))
            right = sum(row.correct for row in rows)
            accuracy = (right + SHRUNK_BY * prior) / (len(rows) + SHRUNK_BY)
            return round(accuracy, 6), -float(np.mean([row.tokens for row in rows]))

        chosen[question] = max(own, key=worth)
    return Oracle(chosen)
