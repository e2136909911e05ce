"""Samples what a race asks for, and no more, into the store of the whole grid.

The plan is that of a full sweep, grid and k included, of which a part is sampled. Seeds depend on question and index
alone, so what is here agrees with a later full sweep of the same plan, with a race for another goal in the same
folder, and with a race that goes on: it is run again from its start, and finds its own samples on record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from mull.analysis.choosing.options import Goal
from mull.analysis.choosing.race import Ask, Outcome, Race, Step, race
from mull.analysis.records import Sample
from mull.runs.plan import SweepPlan
from mull.runs.run import Ready, responses
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
    return race(known, questions, plan.k, goal, plan.seed)


def run_race(
    plan: SweepPlan,
    racing: Race,
    store: RunStore,
    make_ready: Callable[[], Ready],
    on_step: Callable[[Step, int], object] | None = None,
    on_sample: Callable[[Sample], object] | None = None,
) -> Outcome:
    """Sample what a race that was just started (`start`) asks for, where the store does not hold it.

    `make_ready` loads the weights, at the first sample that is missing. `on_step` is told each step before its samples
    and how many of them are missing, `on_sample` each new sample after it is on record. May be stopped at any moment.
    """
    record = {Ask(*s.key): s for s in store.samples(texts=False)}
    under_way = store.under_way
    broken_off = {ask.setting for ask in record} if under_way is None else set(under_way)  # a sweep's, where it was one
    ready: Ready | None = None
    step = next(racing)
    while True:
        missing = [ask for ask in step.asks if ask not in record]
        if on_step:
            on_step(step, len(missing))
        if missing:
            ready = ready or make_ready()
            store.note_race(broken_off | {ask.setting for ask in missing})
            for sample in _sample(plan, ready, missing):
                store.add(sample)
                record[Ask(*sample.key)] = sample
                if on_sample:
                    on_sample(sample)
        broken_off -= {ask.setting for ask in step.asks}
        store.note_race(broken_off)
        try:
            step = racing.send([record[ask] for ask in step.asks])
        except StopIteration as stop:
            return stop.value


def _sample(plan: SweepPlan, ready: Ready, asks: Sequence[Ask]) -> Iterator[Sample]:
    """The samples that `asks` names, setting by setting, in the order in which they finish."""
    for setting in plan.settings:
        wanted = [(ask.question, ask.number) for ask in asks if ask.setting == setting.label]
        if wanted:
            yield from responses(plan, ready.engine, setting, wanted, ready.prompts)
