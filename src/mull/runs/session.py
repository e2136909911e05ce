"""A sweep or a race from a plan to its last response, as the command line, a notebook or a server asks for it.

Refuses early what cannot go on, loads the engine only if something is missing, records every response as it finishes,
and tells an `Observer` how it goes. Knows no terminal.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mull.analysis.choosing.options import Goal
from mull.analysis.choosing.race import Outcome, Step
from mull.analysis.records import Sample
from mull.errors import MullError
from mull.runs.plan import SweepPlan
from mull.runs.race import run_race, start
from mull.runs.run import Ready, missing, planned, provenance, render_prompts, run_sweep
from mull.runs.store import DATABASE, RunStore

if TYPE_CHECKING:
    from mull.engines.remote.engine import RemoteEngine


class RaceWatch(NamedTuple):
    """What an observer of a race is told."""

    step: Callable[[Step, int], object]
    """Each step before its samples, and how many of them are missing."""
    sample: Callable[[Sample], object]
    """Each new sample after it is on record."""


class Observer:
    """Is told how a session goes. This one keeps silent; subclasses show what they like.

    What they raise ends the session: that is how one is stopped from outside.
    """

    def say(self, text: str) -> None:
        """A line worth reading."""

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """Something that takes a while and cannot be counted."""
        yield

    @contextmanager
    def counting(self, what: str, total: int) -> Iterator[Callable[[int], object]]:
        """Something that takes a while: what is yielded is told of every few of `total`."""
        yield lambda count: None

    @contextmanager
    def sweeping(self, plan: SweepPlan, on_record: list[Sample]) -> Iterator[Callable[[Sample], object]]:
        """The sampling of a sweep: what is yielded is told each new sample after it is on record."""
        yield lambda sample: None

    @contextmanager
    def racing(self) -> Iterator[RaceWatch]:
        """A race."""
        yield RaceWatch(lambda step, missing: None, lambda sample: None)


Load = Callable[[SweepPlan, Observer], Ready]
"""Makes the engine of a plan and its prompts."""


def sweep(plan: SweepPlan, run: Path, load: Load, observer: Observer | None = None) -> list[Sample]:
    """Sample what the folder `run` does not hold of the plan; all samples on record, without their texts.

    A run grows by more λ, a larger k and more questions (`mull.runs.growth`); what it holds beyond the plan stays. May
    be stopped at any moment: what is on record stays, and the same call goes on.

    Raises:
        MullError: the folder holds another plan, or the engine cannot be made or fails.
    """
    observer = observer or Observer()
    with observer.busy("drawing the questions"):
        plan.benchmark.questions()
    if (run / DATABASE).exists():
        with _recording(run, plan) as store:
            if not any(missing(plan, store, setting) for setting in plan.settings):
                observer.say(f"{run} is complete: {plan.total} responses on record")
                return store.samples(texts=False)
    ready = load(plan, observer)
    with _recording(run, plan) as store:
        on_record = planned(plan, store.samples(texts=False))
        if on_record:
            observer.say(f"going on from {len(on_record)} of {plan.total} responses")
        with observer.sweeping(plan, on_record) as on_sample:
            run_sweep(plan, ready.engine, store, on_sample, ready.prompts)
        return store.samples(texts=False)


def race(plan: SweepPlan, run: Path, goal: Goal, load: Load, observer: Observer | None = None) -> Outcome:
    """Race for `goal` in the folder `run`, a part of whose plan is sampled; `load` only if anything is missing.

    Raises:
        MullError: too few questions, the folder holds another plan, or the engine cannot be made or fails.
    """
    observer = observer or Observer()
    with observer.busy("drawing the questions"):
        racing = start(plan, goal)
    with _recording(run, plan) as store:
        if store.count():
            observer.say(f"{store.count():,} responses are on record")
        with observer.racing() as watch:
            return run_race(plan, racing, store, lambda: load(plan, observer), watch.step, watch.sample)


def load_local(
    device: str = "auto", batch_size: int | None = None, trust_remote_code: bool = False, *, strict: bool = False
) -> Load:
    """Loads a plan's checkpoints into an engine of this process.

    `strict`: refuse a token limit that the context cannot hold, instead of saying what holds instead.
    """

    def load(plan: SweepPlan, observer: Observer) -> Ready:
        pair = plan.pair
        assert pair is not None
        with observer.busy("loading the checkpoints"):
            from mull.engines.local.engine import LocalEngine  # torch: only where something is to be computed

            engine = LocalEngine(
                pair.instruct.folder,
                pair.thinking.folder,
                donor=pair.donor_side,
                device=device,
                batch_size=batch_size,
                trust_remote_code=trust_remote_code,
                others={role: checkpoint.folder for role, checkpoint in plan.others.items()},
            )
        with observer.counting("preparing the prompts", len(plan.benchmark.questions())) as advance:
            prompts = render_prompts(plan, engine, advance)
        longest = max(len(prompt) for prompt in prompts.values())
        notice = limit_notice(plan.sampling.max_tokens, engine.context, longest, strict=strict)
        if notice:
            observer.say(notice)
        return Ready(engine, prompts)

    return load


def load_remote(engine: RemoteEngine) -> Load:
    """Asks the servers whether they can answer, and renders the prompts as they will be sent."""

    def load(plan: SweepPlan, observer: Observer) -> Ready:
        with observer.busy("asking the servers"):
            engine.check(plan.sampling.max_tokens)
        with observer.counting("preparing the prompts", len(plan.benchmark.questions())) as advance:
            return Ready(engine, render_prompts(plan, engine, advance))

    return load


def limit_notice(limit: int, context: int, longest: int, *, strict: bool) -> str:
    """What to say of a limit of `limit` tokens per response when the longest prompt takes `longest` of the context.

    Nothing where it fits. Raises `MullError` where it does not and `strict`, and where no room is left at all.
    """
    room = context - longest
    if limit <= room:
        return ""
    why = f"the model's context is {context:,} tokens, of which the longest prompt takes {longest:,}"
    if room < 1:
        raise MullError(f"a question leaves no room for an answer: {why}", "choose a model with a longer context")
    if strict:
        raise MullError(f"--max-tokens {limit} does not fit: {why}", f"give --max-tokens {room} or less")
    return f"limit per response: {room:,} tokens, not the benchmark's {limit:,}: {why}"


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
