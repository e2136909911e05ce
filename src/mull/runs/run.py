"""Runs a sweep: for each setting, switch the weights and sample what the store does not hold yet."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple, Protocol

from mull import __version__
from mull.analysis.records import Sample
from mull.benchmarks import Benchmark, Question
from mull.engines.base import Completion, Engine, Request
from mull.engines.local.arithmetic import is_unrounded
from mull.merging.coefficients.recipe import Recipe
from mull.runs.grading import grade_response
from mull.runs.plan import SweepPlan
from mull.runs.settings import Setting
from mull.runs.store import RunStore
from mull.thinking import KNOWN, ThinkTags


class SwitchingEngine(Engine, Protocol):
    """An engine that has both checkpoints in memory and can switch to any weights between them."""

    def set_weights(self, weights: Recipe) -> None: ...


class Renders(Protocol):
    """An engine, or the tokenizer of one that is not loaded yet."""

    def render(self, messages: list[dict[str, str]]) -> tuple[int, ...]: ...


Prompts = dict[str, tuple[int, ...]]
"""Question id → token ids, chat template included."""


class Ready(NamedTuple):
    """An engine with the plan's checkpoints loaded, and the prompts rendered with its chat template."""

    engine: SwitchingEngine
    prompts: Prompts
    kernels: str = ""
    """What decides the last bits of responses beside the plan, in words; empty if the engine does not say."""
    close: Callable[[], object] = lambda: None
    """Ends what the engine has started."""


def render_prompts(plan: SweepPlan, engine: Renders, advance: Callable[[int], object] | None = None) -> Prompts:
    """The prompts of all questions; `advance(1)` is called after each."""
    prompts = {}
    for question in plan.benchmark.questions():
        prompts[question.id] = engine.render(plan.benchmark.prompt(question))
        if advance:
            advance(1)
    return prompts


def run_sweep(
    plan: SweepPlan,
    engine: SwitchingEngine,
    store: RunStore,
    on_sample: Callable[[Sample], object] | None = None,
    prompts: Prompts | None = None,
) -> None:
    """Sample until the store holds the whole plan; `on_sample` gets each new sample after it is recorded.

    `prompts`: the result of `render_prompts`, if the caller has it already. May be stopped at any moment, by Ctrl-C or
    kill: recorded samples stay, and another call samples the rest.
    """
    prompts = prompts or render_prompts(plan, engine)
    for settings in together(plan):
        wanted = [Wanted(setting, *key) for setting in settings for key in missing(plan, store, setting)]
        if not wanted:
            continue
        store.note_race(None)
        for sample in responses(plan, engine, wanted, prompts):
            store.add(sample)
            if on_sample:
                on_sample(sample)


def missing(plan: SweepPlan, store: RunStore, setting: Setting) -> list[tuple[str, int]]:
    """(question, index) of the plan's samples of `setting` that are not recorded yet."""
    done = store.done(setting.label)
    keys = [question.id for question in plan.benchmark.questions()]
    return [(key, i) for key in keys for i in range(plan.k) if (key, i) not in done]


def planned(plan: SweepPlan, samples: Iterable[Sample]) -> list[Sample]:
    """Those of `samples` that the plan asks for: a run that has grown may hold more."""
    settings = {setting.label for setting in plan.settings}
    keys = {question.id for question in plan.benchmark.questions()}
    return [s for s in samples if s.setting in settings and s.question in keys and s.index < plan.k]


class Wanted(NamedTuple):
    """A sample to be drawn."""

    setting: Setting
    question: str
    number: int
    """The index of the sample among those of its question."""


def together(plan: SweepPlan) -> list[list[Setting]]:
    """The settings in groups that are sampled at the same time: all of them if the engine has a λ per row."""
    if is_unrounded(plan.engine):
        return [list(plan.settings)]
    return [[setting] for setting in plan.settings]


def responses(plan: SweepPlan, engine: SwitchingEngine, wanted: Sequence[Wanted], prompts: Prompts) -> Iterator[Sample]:
    """A graded sample for each of `wanted`, in the order in which they finish.

    Their settings are a group of `together`: each request has its λ, or the weights are switched to the one setting.
    """
    questions = {question.id: question for question in plan.benchmark.questions()}
    by_row = is_unrounded(plan.engine)
    if not by_row:
        engine.set_weights(wanted[0].setting.recipe)
    # Long prompts first: their answers tend to be long, and a long answer that starts last runs alone in its batch.
    asked = {
        f"{each.question}\n{each.number}\n{each.setting.label}": each
        for each in sorted(wanted, key=lambda each: -len(prompts[each.question]))
    }
    requests = (
        Request(
            id=name,
            prompt_ids=prompts[each.question],
            seed=plan.sample_seed(each.question, each.number),
            sampling=plan.sampling_of(each.setting, questions[each.question]),
            lam=each.setting.recipe.coefficients.default if by_row else None,
        )
        for name, each in asked.items()
    )
    for completion in engine.generate(requests):
        setting, key, number = asked[completion.id]
        yield grade(
            plan.benchmark, questions[key], completion, setting, number, plan.sample_seed(key, number), plan.tags
        )


def grade(
    benchmark: Benchmark,
    question: Question,
    completion: Completion,
    setting: Setting,
    index: int,
    seed: int,
    tags: Sequence[ThinkTags] = KNOWN,
) -> Sample:
    """Split off the thought, whose delimiters may be any of `tags`, grade the answer, and make the record."""
    finished = completion.finish == "stop"
    kind, result = grade_response(benchmark, question, completion.text, finished=finished, tags=tags)
    return Sample(
        benchmark=question.benchmark or benchmark.name,
        question=question.id,
        stratum=question.stratum,
        setting=setting.label,
        lam=setting.lam,
        index=index,
        seed=seed,
        text=completion.text,
        tokens=completion.tokens,
        prompt_tokens=completion.prompt_tokens,
        thought_tokens=completion.thought_tokens,
        finish=completion.finish,
        thinking="forced" if completion.forced and kind == "closed" else kind,
        answer=result.answer,
        correct=result.correct,
        seconds=completion.seconds,
        scores=result.scores,
    )


def provenance(plan: SweepPlan) -> dict[str, Any]:
    """What the plan does not record: names of the checkpoints and of the data file, versions, machine and time."""
    packages = {}
    for name in ("torch", "transformers", "tokenizers", "numpy"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "absent"
    data = getattr(plan.benchmark, "file", "")  # of a `DataBenchmark`, or one with a prompt of one's own
    return {
        "mull": __version__,
        **_names(plan),
        **({"data": data} if data else {}),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "packages": packages,
    }


def _names(plan: SweepPlan) -> dict[str, Any]:
    if plan.pair is None:
        targets = plan.endpoints.targets if plan.endpoints else {}
        return {"endpoints": {lam: target.url for lam, target in targets.items()}}
    return {
        "instruct": plan.pair.instruct.name,
        "thinking": plan.pair.thinking.name,
        **{role: checkpoint.name for role, checkpoint in plan.others.items()},
    }
