"""`mull sweep` from servers: checked, then sampled like any other sweep."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mull.cli.options import consoles
from mull.cli.recording import complete_samples, record_samples

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mull.engines.endpoints import Endpoints
    from mull.engines.remote import RemoteEngine
    from mull.study.records import Sample
    from mull.sweeps.plan import SweepPlan


def sample_remote(plan: SweepPlan, run: Path, engine: RemoteEngine) -> list[Sample]:
    """Run `plan` in the folder `run` under a live table; returns all samples on record."""
    from mull.cli.progress import item_progress
    from mull.sweeps.run import render_prompts

    _, stderr = consoles()
    done = complete_samples(plan, run, stderr)
    if done is not None:
        return done
    with stderr.status("asking the servers"):
        engine.check(plan.sampling.max_tokens)
    with item_progress("preparing the prompts", len(plan.benchmark.questions()), stderr) as advance:
        prompts = render_prompts(plan, engine, advance)
    return record_samples(plan, run, engine, prompts, stderr)


def refuse_local(given: Iterable[str]) -> None:
    """Raise `MullError` for options that only checkpoints can obey."""
    from mull.errors import MullError

    named = ", ".join(given)
    if named:
        raise MullError(f"{named} cannot be had from servers", "leave it out, or the endpoints")


def remote_engine(
    endpoints: Endpoints,
    key_variable: str | None,
    concurrency: int,
    retries: int,
    timeout: float,
    per_minute: float | None,
) -> RemoteEngine:
    """The engine. Raises `MullError` where the variable that should hold the key is not set."""
    import os

    from mull.engines.remote import KEY_VARIABLE, RemoteEngine
    from mull.errors import MullError

    if key_variable and not os.environ.get(key_variable):
        raise MullError(f"the environment variable {key_variable} is not set", "put the API key into it")
    return RemoteEngine(
        endpoints,
        concurrency=concurrency,
        retries=retries,
        timeout=timeout,
        per_minute=per_minute,
        key_variable=key_variable or KEY_VARIABLE,
    )
