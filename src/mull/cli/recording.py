"""What every sweep of the command line does around its engine: refuse early, go on, show, say what it took."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from mull.study.records import Sample
    from mull.sweeps.plan import SweepPlan
    from mull.sweeps.run import Prompts, SwitchingEngine


def complete_samples(plan: SweepPlan, run: Path, stderr: Console) -> list[Sample] | None:
    """The samples of a run that is complete, without their texts; None where there is work to do.

    Raises `MullError` for a folder that cannot go on with this plan, before anything costly is begun.
    """
    from mull.sweeps.run import provenance
    from mull.sweeps.store import DATABASE, RunStore

    if not (run / DATABASE).exists():
        return None
    with RunStore.record(run, plan, provenance(plan)) as store:
        if store.count() < plan.total:
            return None
        complete = f"{run} is complete: {plan.total} responses on record"
        stderr.print(complete, highlight=False, markup=False, soft_wrap=True)
        return store.samples(texts=False)


def record_samples(
    plan: SweepPlan, run: Path, engine: SwitchingEngine, prompts: Prompts, stderr: Console
) -> list[Sample]:
    """Sample what is missing under a live table; returns all samples on record, without their texts.

    An attempt that fails before the first response leaves no folder: its plan should not bind the next one.
    """
    from mull.cli.live import clock, run_live
    from mull.errors import MullError
    from mull.sweeps.run import provenance
    from mull.sweeps.store import RunStore

    made, empty = not run.exists(), False
    try:
        with RunStore.record(run, plan, provenance(plan)) as store:
            if store.count():
                stderr.print(f"going on from {store.count()} of {plan.total} responses", highlight=False)
            try:
                done = run_live(plan, engine, store, stderr, prompts)
            except MullError:
                empty = not store.count()
                raise
            speed = f"{done.tokens_per_second:,.0f} tokens/s"
            stderr.print(f"{done.new} responses in {clock(done.seconds)}, {speed}", highlight=False)
            return store.samples(texts=False)
    finally:
        if made and empty:
            shutil.rmtree(run, ignore_errors=True)
