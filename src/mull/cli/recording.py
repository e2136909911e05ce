"""What every sweep of the command line does around its engine: refuse early, go on, show, say what it took."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from mull.analysis.records import Sample
    from mull.engines.remote.engine import RemoteEngine
    from mull.runs.plan import SweepPlan
    from mull.runs.run import Prompts, Ready, SwitchingEngine
    from mull.runs.store import RunStore


def complete_samples(plan: SweepPlan, run: Path, stderr: Console) -> list[Sample] | None:
    """The samples of a run that is complete, without their texts; None where there is work to do.

    Raises `MullError` for a folder that cannot go on with this plan, before anything costly is begun.
    """
    from mull.runs.run import provenance
    from mull.runs.store import DATABASE, RunStore

    if not (run / DATABASE).exists():
        return None
    with RunStore.record(run, plan, provenance(plan)) as store:
        if store.count() < plan.total:
            return None
        complete = f"{run} is complete: {plan.total} responses on record"
        stderr.print(complete, highlight=False, markup=False, soft_wrap=True)
        return store.samples(texts=False)


def load_engine(
    plan: SweepPlan,
    stderr: Console,
    device: str = "auto",
    batch_size: int | None = None,
    trust_remote_code: bool = False,
    *,
    strict: bool = False,
) -> Ready:
    """The plan's checkpoints in an engine of this process, and its prompts.

    `strict`: refuse a token limit that the context cannot hold, instead of saying what holds instead.
    """
    from mull.cli.rendering.progress import item_progress
    from mull.runs.run import Ready, render_prompts

    pair = plan.pair
    assert pair is not None
    with stderr.status("loading the checkpoints"):
        from mull.engines.local.engine import LocalEngine

        engine = LocalEngine(
            pair.instruct.folder,
            pair.thinking.folder,
            donor=pair.donor_side,
            device=device,
            batch_size=batch_size,
            trust_remote_code=trust_remote_code,
            others={role: checkpoint.folder for role, checkpoint in plan.others.items()},
        )
    with item_progress("preparing the prompts", len(plan.benchmark.questions()), stderr) as advance:
        prompts = render_prompts(plan, engine, advance)
    longest = max(len(prompt) for prompt in prompts.values())
    notice = limit_notice(plan.sampling.max_tokens, engine.context, longest, strict=strict)
    if notice:
        stderr.print(notice, highlight=False, soft_wrap=True)
    return Ready(engine, prompts)


def prepare_remote(plan: SweepPlan, stderr: Console, engine: RemoteEngine) -> Ready:
    """The servers, once they have said that they can answer, and the prompts as they will be sent."""
    from mull.cli.rendering.progress import item_progress
    from mull.runs.run import Ready, render_prompts

    with stderr.status("asking the servers"):
        engine.check(plan.sampling.max_tokens)
    with item_progress("preparing the prompts", len(plan.benchmark.questions()), stderr) as advance:
        return Ready(engine, render_prompts(plan, engine, advance))


def record_samples(
    plan: SweepPlan, run: Path, engine: SwitchingEngine, prompts: Prompts, stderr: Console
) -> list[Sample]:
    """Sample what is missing under a live table; returns all samples on record, without their texts."""
    from mull.cli.rendering.live import clock, run_live

    with recording(run, plan) as store:
        if store.count():
            stderr.print(f"going on from {store.count()} of {plan.total} responses", highlight=False)
        done = run_live(plan, engine, store, stderr, prompts)
        speed = f"{done.tokens_per_second:,.0f} tokens/s"
        stderr.print(f"{done.new} responses in {clock(done.seconds)}, {speed}", highlight=False)
        return store.samples(texts=False)


@contextmanager
def recording(run: Path, plan: SweepPlan) -> Iterator[RunStore]:
    """The run's store, open for writing.

    An attempt that fails before the first response leaves no folder: its plan should not bind the next one.
    """
    from mull.errors import MullError
    from mull.runs.run import provenance
    from mull.runs.store import RunStore

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


def limit_notice(limit: int, context: int, longest: int, *, strict: bool) -> str:
    """What to say of a limit of `limit` tokens per response when the longest prompt takes `longest` of the context.

    Nothing where it fits. Raises `MullError` where it does not and `strict`, and where no room is left at all.
    """
    from mull.errors import MullError

    room = context - longest
    if limit <= room:
        return ""
    why = f"the model's context is {context:,} tokens, of which the longest prompt takes {longest:,}"
    if room < 1:
        raise MullError(f"a question leaves no room for an answer: {why}", "choose a model with a longer context")
    if strict:
        raise MullError(f"--max-tokens {limit} does not fit: {why}", f"give --max-tokens {room} or less")
    return f"limit per response: {room:,} tokens, not the benchmark's {limit:,}: {why}"
