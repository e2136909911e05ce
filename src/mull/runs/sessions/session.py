"""Carries out a sweep or a race from its plan to the last response.

Refuses a plan that cannot be sampled before any work, loads the engine only if responses are missing, records every
response as soon as it finishes, and reports progress to an `Observer`. Knows no terminal.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from mull.analysis.choosing.options import Goal
from mull.analysis.choosing.race import Outcome
from mull.analysis.records import Sample
from mull.benchmarks.several import parts_of
from mull.errors import MullError
from mull.runs.grading import keep_grader
from mull.runs.plan import SweepPlan
from mull.runs.race import run_race, start
from mull.runs.run import Ready, missing, planned, provenance, run_sweep
from mull.runs.sessions.loading import Loader
from mull.runs.sessions.observer import Observer
from mull.runs.sessions.pace import Expected, expected
from mull.runs.store import DATABASE, RunStore
from mull.words import counted

log = logging.getLogger(__name__)


def sweep(plan: SweepPlan, run: Path, loader: Loader, observer: Observer | None = None) -> list[Sample]:
    """Sample what the folder `run` lacks of the plan; returns all its samples, without their texts.

    The loader sets the plan's `engine`. A run grows by more λ, a larger k and more questions (`mull.runs.growth`);
    samples that the plan does not ask for stay. May be stopped at any moment: recorded samples stay, and the same call
    samples the rest.

    Raises:
        MullError: the folder holds another plan, or the engine cannot be made or fails.
    """
    observer = observer or Observer()
    plan = _checked(plan, run, loader, observer)
    if (run / DATABASE).exists():
        with RunStore.open(run) as store:
            if not any(missing(plan, store, setting) for setting in plan.settings):
                observer.say(f"{run} is complete: {counted(plan.total, 'response')} on record")
                return store.samples(texts=False)
    plan = replace(plan, engine=loader.name(plan, observer))
    _refuse_another(plan, run)
    ready = loader.load(plan, observer)  # before the store is opened: if loading fails, no run is made or grown
    with ExitStack() as loaded, _recording(run, plan) as store:
        loaded.callback(ready.close)
        on_record = planned(plan, store.samples(texts=False))
        if on_record:
            observer.say(f"going on from {len(on_record):,} of {counted(plan.total, 'response')}")
        _note_kernels(store, ready, observer)
        with observer.sweeping(plan, on_record) as report, _timed(store, report) as on_sample:
            run_sweep(plan, ready.engine, store, on_sample, ready.prompts)
        return store.samples(texts=False)


def race(plan: SweepPlan, run: Path, goal: Goal, loader: Loader, observer: Observer | None = None) -> Outcome:
    """Race for `goal` in the folder `run`, sampling a part of `plan`; loads the engine only if samples are missing.

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
            observer.say(f"{counted(store.count(), 'response is', 'responses are')} on record")
        with ExitStack() as loaded, observer.racing() as watch, _timed(store, watch.sample) as on_sample:

            def load() -> Ready:
                store.grown(replace(plan, engine=loader.name(plan, observer)), provenance(plan))
                ready = loader.load(plan, observer)
                loaded.callback(ready.close)
                _note_kernels(store, ready, observer)
                return ready

            return run_race(plan, racing, store, load, watch.step, on_sample)


def expect(plan: SweepPlan, run: Path, loader: Loader, observer: Observer | None = None) -> Expected:
    """An estimate of what `sweep` would have to do, from the recorded samples; loads and writes nothing.

    Raises:
        MullError: the folder holds another plan.
    """
    plan = _checked(plan, run, loader, observer or Observer())
    if not (run / DATABASE).exists():
        return expected(plan, [], None)
    with RunStore.open(run) as store:
        return expected(plan, store.samples(texts=False), store.pace)


def _checked(plan: SweepPlan, run: Path, loader: Loader, observer: Observer) -> SweepPlan:
    """The plan with its engine: the recorded one if the loader may be the same, else the loader's.

    Raises `MullError` if the folder holds something else or a run that cannot go on with the plan."""
    with observer.busy("drawing the questions"):
        plan.benchmark.questions()
    RunStore.check_folder(run)
    if (run / DATABASE).exists():
        with RunStore.open(run) as store:
            recorded = store.plan
        fits = loader.could_be(plan, recorded["engine"])
        plan = plan.going_on(recorded)
        plan = replace(plan, engine=recorded["engine"] if fits else loader.name(plan, observer))
    _refuse_another(plan, run)
    return plan


def _refuse_another(plan: SweepPlan, run: Path) -> None:
    """Raise `MullError` if the folder holds a run that cannot go on with this plan."""
    if (run / DATABASE).exists():
        with RunStore.open(run) as store:
            store.grown(plan, provenance(plan))


def _note_kernels(store: RunStore, ready: Ready, observer: Observer) -> None:
    """Records what decides the last bits of the session's responses; says so if earlier ones had others."""
    if not ready.kernels:
        return
    log.debug("kernels: %s", ready.kernels)
    if store.count() and store.kernels and ready.kernels not in store.kernels:
        observer.say(
            f"responses on record were computed with {store.kernels[-1]}; now with {ready.kernels}: "
            "new ones may differ from those of an uninterrupted run where two tokens are almost equally likely"
        )
    store.note_kernels(ready.kernels)


@contextmanager
def _timed(store: RunStore, report: Callable[[Sample], object]) -> Iterator[Callable[[Sample], object]]:
    """Counts the samples of this session and records at its end how many tokens it generated in how many seconds."""
    begun, tokens, responses = time.perf_counter(), 0, 0

    def on_sample(sample: Sample) -> None:
        nonlocal tokens, responses
        tokens, responses = tokens + sample.tokens, responses + 1
        report(sample)

    try:
        yield on_sample
    finally:
        if responses:
            store.note_pace(tokens, time.perf_counter() - begun)


@contextmanager
def _recording(run: Path, plan: SweepPlan) -> Iterator[RunStore]:
    """The run's store, open for writing.

    If the session fails before its first response in a new folder, the folder is removed, so that the next session can
    use another plan there.
    """
    made, empty = not run.exists(), False
    try:
        with RunStore.record(run, plan, provenance(plan)) as store:
            try:
                for part in parts_of(plan.benchmark):
                    keep_grader(getattr(part, "grader", None), run)
                yield store
            except MullError:
                empty = not store.count()
                raise
    finally:
        if made and empty:
            shutil.rmtree(run, ignore_errors=True)
