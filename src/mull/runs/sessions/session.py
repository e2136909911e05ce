"""A sweep or a race from a plan to its last response, as the command line, a notebook or a server asks for it.

Refuses early what cannot go on, loads the engine only if something is missing, records every response as it finishes,
and tells an `Observer` how it goes. Knows no terminal.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from mull.analysis.choosing.options import Goal
from mull.analysis.choosing.race import Outcome
from mull.analysis.records import Sample
from mull.errors import MullError
from mull.runs.plan import SweepPlan
from mull.runs.race import run_race, start
from mull.runs.run import Ready, missing, planned, provenance, run_sweep
from mull.runs.sessions.loading import Loader
from mull.runs.sessions.observer import Observer
from mull.runs.sessions.pace import Expected, expected
from mull.runs.store import DATABASE, RunStore


def sweep(plan: SweepPlan, run: Path, loader: Loader, observer: Observer | None = None) -> list[Sample]:
    """Sample what the folder `run` does not hold of the plan; all samples on record, without their texts.

    The plan's `engine` is named by the loader. A run grows by more λ, a larger k and more questions
    (`mull.runs.growth`); what it holds beyond the plan stays. May be stopped at any moment: what is on record stays,
    and the same call goes on.

    Raises:
        MullError: the folder holds another plan, or the engine cannot be made or fails.
    """
    observer = observer or Observer()
    plan = _checked(plan, run, loader, observer)
    if (run / DATABASE).exists():
        with RunStore.open(run) as store:
            if not any(missing(plan, store, setting) for setting in plan.settings):
                observer.say(f"{run} is complete: {plan.total} responses on record")
                return store.samples(texts=False)
    plan = replace(plan, engine=loader.name(plan, observer))
    _refuse_another(plan, run)
    ready = loader.load(plan, observer)  # first: what cannot be loaded neither makes nor grows a run
    with _recording(run, plan) as store:
        on_record = planned(plan, store.samples(texts=False))
        if on_record:
            observer.say(f"going on from {len(on_record)} of {plan.total} responses")
        with observer.sweeping(plan, on_record) as told, _timed(store, told) as on_sample:
            run_sweep(plan, ready.engine, store, on_sample, ready.prompts)
        return store.samples(texts=False)


def race(plan: SweepPlan, run: Path, goal: Goal, loader: Loader, observer: Observer | None = None) -> Outcome:
    """Race for `goal` in the folder `run`, a part of whose plan is sampled; loads only if anything is missing.

    Raises:
        MullError: too few questions, the folder holds another plan, or the engine cannot be made or fails.
    """
    observer = observer or Observer()
    plan = _checked(plan, run, loader, observer)
    racing = start(plan, goal)
    if not (run / DATABASE).exists():
        plan = replace(plan, engine=loader.name(plan, observer))
    with _recording(run, plan) as store:
        if store.count():
            observer.say(f"{store.count():,} responses are on record")
        with observer.racing() as watch, _timed(store, watch.sample) as on_sample:

            def load() -> Ready:
                store.grown(replace(plan, engine=loader.name(plan, observer)), provenance(plan))
                return loader.load(plan, observer)

            return run_race(plan, racing, store, load, watch.step, on_sample)


def expect(plan: SweepPlan, run: Path, loader: Loader, observer: Observer | None = None) -> Expected:
    """What `sweep` would have to do, computed from what is on record; loads and writes nothing.

    Raises:
        MullError: the folder holds another plan.
    """
    plan = _checked(plan, run, loader, observer or Observer())
    if not (run / DATABASE).exists():
        return expected(plan, [], None)
    with RunStore.open(run) as store:
        return expected(plan, store.samples(texts=False), store.pace)


def _checked(plan: SweepPlan, run: Path, loader: Loader, observer: Observer) -> SweepPlan:
    """The plan, with the engine on record where that may be the loader's. Refuses what the folder cannot take."""
    with observer.busy("drawing the questions"):
        plan.benchmark.questions()
    RunStore.check_folder(run)
    if (run / DATABASE).exists():
        with RunStore.open(run) as store:
            held = store.plan["engine"]
            fits = loader.could_be(plan, held)
        plan = replace(plan, engine=held if fits else loader.name(plan, observer))
    _refuse_another(plan, run)
    return plan


def _refuse_another(plan: SweepPlan, run: Path) -> None:
    """Raise `MullError` where the folder holds a run that cannot go on with this very plan."""
    if (run / DATABASE).exists():
        with RunStore.open(run) as store:
            store.grown(plan, provenance(plan))


@contextmanager
def _timed(store: RunStore, told: Callable[[Sample], object]) -> Iterator[Callable[[Sample], object]]:
    """Puts on record how many tokens this session generated, and in how many seconds."""
    begun, tokens, responses = time.perf_counter(), 0, 0

    def on_sample(sample: Sample) -> None:
        nonlocal tokens, responses
        tokens, responses = tokens + sample.tokens, responses + 1
        told(sample)

    try:
        yield on_sample
    finally:
        if responses:
            store.note_pace(tokens, time.perf_counter() - begun)


@contextmanager
def _recording(run: Path, plan: SweepPlan) -> Iterator[RunStore]:
    """The run's store, open for writing.

    An attempt that fails before the first response leaves no folder: its plan should not bind the next one.
    """
    made, empty = not run.exists(), False
    try:
        with RunStore.record(run, plan, provenance(plan)) as store:
            try:
                yield store
            except MullError:
                empty = not store.count()
                raise
    finally:
        if made and empty:
            shutil.rmtree(run, ignore_errors=True)
