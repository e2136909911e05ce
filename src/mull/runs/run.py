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
from mull.benchmarks.dataset import DataBenchmark
from mull.engines.base import Completion, Engine, Request
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
    for setting in plan.settings:
        wanted = missing(plan, store, setting)
        if not wanted:
            continue
        store.note_race(None)
        for sample in responses(plan, engine, setting, wanted, prompts):
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


def responses(
    plan: SweepPlan, engine: SwitchingEngine, setting: Setting, wanted: Sequence[tuple[str, int]], prompts: Prompts
) -> Iterator[Sample]:
    """Switch the weights to `setting`, then yield a graded sample per (question, index), in the order they finish."""
    questions = {question.id: question for question in plan.benchmark.questions()}
    engine.set_weights(setting.recipe)
    sampling = setting.sampling or plan.sampling
    # Long prompts first: their answers tend to be long, and a long answer that starts last runs alone in its batch.
    requests = (
        Request(id=f"{key}\n{i}", prompt_ids=prompts[key], seed=plan.sample_seed(key, i), sampling=sampling)
        for key, i in sorted(wanted, key=lambda item: -len(prompts[item[0]]))
    )
    for completion in engine.generate(requests):
        key, index = completion.id.rsplit("\n", 1)
        seed = plan.sample_seed(key, int(index))
        yield grade(plan.benchmark, questions[key], completion, setting, int(index), seed, plan.tags)


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
        benchmark=benchmark.name,
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
    data = plan.benchmark.file if isinstance(plan.benchmark, DataBenchmark) else ""
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
