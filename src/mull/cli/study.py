"""A study on the command line: its options as given, the plan they make, and the run itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mull.cli.options.common import Donor, consoles
from mull.errors import MullError

if TYPE_CHECKING:
    from mull.checkpoints.pair import Pair
    from mull.engines.base import Sampling
    from mull.runs.settings import Setting


@dataclass(frozen=True)
class Study:
    """A study's options, as given."""

    instruct: str
    thinking: str
    run: Path
    benchmark: str
    k: int
    questions: int | None
    seed: int
    max_tokens: int | None
    donor: Donor
    device: str
    data: Path | None = None
    grader: str | None = None


def run_study(
    study: Study,
    settings_of: Callable[[Pair, Sampling], list[Setting]],
    others: Mapping[str, str] | None = None,
    reference: str | None = None,
) -> None:
    """Sample the settings that `settings_of` makes; print their table and how each differs from `reference`.

    `others`: further checkpoints by role. `reference`: a setting's label, the first unless given.

    Raises:
        MullError: the checkpoints cannot be mixed, a setting does not fit them, or the run folder holds another plan.
    """
    from mull.benchmarks import load_benchmark
    from mull.checkpoints.checkpoint import Checkpoint
    from mull.checkpoints.pair import Pair
    from mull.cli.rendering.observer import Terminal
    from mull.cli.rendering.summary import print_summary
    from mull.cli.rendering.warnings import print_warnings
    from mull.engines.base import Sampling
    from mull.runs import session
    from mull.runs.plan import SweepPlan

    stdout, stderr = consoles()
    benchmark = load_benchmark(study.benchmark, questions=study.questions, data=study.data, grader=study.grader)
    pair = Pair.open(study.instruct, study.thinking, donor=study.donor.value)
    print_warnings(pair.check(), stderr)
    for role in others or {}:
        if role in ("instruct", "thinking"):
            raise MullError(f"a further checkpoint cannot be called {role!r}", "give it another name")
    held = {role: Checkpoint.open(name) for role, name in (others or {}).items()}
    for checkpoint in held.values():
        Pair(checkpoint, pair.thinking).check(("config", "tokens", "rope", "vocabulary"))
    sampling = Sampling(max_tokens=study.max_tokens or benchmark.max_tokens)
    settings = settings_of(pair, sampling)
    names = [tensor.name for tensor in pair.tensors]
    for setting in settings:
        setting.recipe.coefficients.resolve(names)  # refuse a range beyond the model before the weights are loaded
    with stderr.status("starting torch"):
        from mull.engines.local.engine import arithmetic

        engine = arithmetic(pair.donor.folder, study.device)
    plan = SweepPlan(pair, settings, benchmark, study.k, sampling, study.seed, engine, held)
    load = session.load_local(study.device, strict=study.max_tokens is not None)
    samples = session.sweep(plan, study.run, load, Terminal(stderr))
    print_summary(samples, stdout, reference=reference or settings[0].label)
    stdout.print(f"\nrun: {study.run}\nnext: mull report {study.run}", highlight=False, markup=False, soft_wrap=True)
