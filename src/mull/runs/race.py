"""Samples what a race (`mull.analysis.choosing.race`) asks for into the store of a full sweep.

The plan is that of the full sweep; the race samples a part of it. The seed of a sample depends on its question and
index only, so that a later full sweep or a race for another goal can use the same samples. A stopped race is run again
from its start and finds its own samples in the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from mull.analysis.choosing.options import Goal
from mull.analysis.choosing.race import Ask, Outcome, Race, Step, race
from mull.analysis.records import Sample
from mull.runs.plan import SweepPlan
from mull.runs.run import Ready, Wanted, responses, together
from mull.runs.store import RunStore


def start(plan: SweepPlan, goal: Goal) -> Race:
    """The race for `goal` among the plan's settings.

    Raises `MullError` for too few questions (see `race`), `ValueError` for settings that have no single λ.
    """
    lams = {setting.label: setting.lam for setting in plan.settings}
    known = {label: lam for label, lam in lams.items() if lam is not None}
    if len(known) < len(lams):
        raise ValueError("a race runs along λ")
    questions = {question.id: question.stratum for question in plan.benchmark.questions()}
    benchmarks = {question.id: question.benchmark or plan.benchmark.name for question in plan.benchmark.questions()}
    return race(known, questions, plan.k, goal, plan.seed, benchmarks)


def run_race(
    plan: SweepPlan,
    racing: Race,
    store: RunStore,
    make_ready: Callable[[], Ready],
    on_step: Callable[[Step, int], object] | None = None,
    on_sample: Callable[[Sample], object] | None = None,
) -> Outcome:
    """Run a race that was made by `start`: sample what it asks for and the store does not have.

    `make_ready` loads the weights; it is called at the first missing sample. `on_step` gets each step and its number of
    missing samples before they are sampled, `on_sample` each new sample after it is recorded. May be stopped at any
    moment.
    """
    record = {Ask(*s.key): s for s in store.samples(texts=False)}
    # Settings whose last step may be incomplete: after a sweep, all of them.
    under_way = store.under_way
    unfinished = {ask.setting for ask in record} if under_way is None else set(under_way)
    ready: Ready | None = None
    step = next(racing)
    while True:
        missing = [ask for ask in step.asks if ask not in record]
        if on_step:
            on_step(step, len(missing))
        if missing:
            ready = ready or make_ready()
            store.note_race(unfinished | {ask.setting for ask in missing})
            for sample in _sample(plan, ready, missing):
                store.add(sample)
                record[Ask(*sample.key)] = sample
                if on_sample:
                    on_sample(sample)
        unfinished -= {ask.setting for ask in step.asks}
        store.note_race(unfinished)
        try:
            step = racing.send([record[ask] for ask in step.asks])
        except StopIteration as stop:
            return stop.value


def _sample(plan: SweepPlan, ready: Ready, asks: Sequence[Ask]) -> Iterator[Sample]:
    """The samples that `asks` names: group after group of settings, within each in the order in which they finish."""
    for settings in together(plan):
        own = {setting.label: setting for setting in settings}
        wanted = [Wanted(own[ask.setting], ask.question, ask.number) for ask in asks if ask.setting in own]
        if wanted:
            yield from responses(plan, ready.engine, wanted, ready.prompts)
