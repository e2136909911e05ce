"""`sweep` and `choose`: sample a run, all of it or as much as a choice of λ needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Unpack

from mull.analysis.choosing.options import Goal
from mull.api.choice import Choice
from mull.api.plans import Asked, Options, Planned, Settings, plan_of
from mull.api.progress import observer_of
from mull.api.run import Run
from mull.checkpoints.checkpoint import Checkpoint
from mull.checkpoints.pair import Pair
from mull.runs.sessions import session
from mull.runs.sessions.observer import Observer

GRID = "0:1:0.1"
FINE = "0:1:0.05"


def sweep(
    pair: Pair | None = None,
    *,
    out: str | Path,
    benchmark: Asked = "tiny",
    lambdas: str | Sequence[float] = GRID,
    k: int = 8,
    settings: Settings | None = None,
    others: Mapping[str, str | Path | Checkpoint] | None = None,
    quiet: bool = False,
    **options: Unpack[Options],
) -> Run:
    """Sample k answers per question at every λ, grade them, and keep them in the run folder `out`.

    Every response is recorded as soon as it is finished. After Ctrl-C or a kernel's interrupt the same call goes on;
    more λ, a larger k or more questions add to the run. No checkpoint is written.

    Args:
        pair: None: the built-in pair, or a server if `endpoint` is given.
        out: run folder: new, or an existing run to continue.
        benchmark: a name of `mull benchmarks`, a data file, or a `Benchmark`; or a list of them, which share the run.
        lambdas: a list, or start:stop:step as in "0:1:0.1".
        k: samples per question and λ.
        settings: weights in place of λ, for ablations and comparisons: numbers, `Coefficients`, `Recipe` or `Setting`,
            which a mapping names. `mull.runs.paper.studies` makes those of the interpolation paper.
        others: further checkpoints that settings name, by role, as in `{"base": "path/to/base"}`.
        quiet: show no bar.
        **options: questions, sampling, engine, server: see `mull.api.plans.Options`.

    Raises:
        MullError: the pair cannot be mixed, an argument is wrong, the folder holds another plan, or the engine fails.
    """
    observer = observer_of(quiet)
    planned = plan_of(pair, benchmark, lambdas, k, settings, others or {}, options)
    _warn(planned, observer)
    session.sweep(planned.plan, Path(out), planned.loader, observer)
    return Run.open(out)


def choose(
    pair: Pair | None = None,
    *,
    out: str | Path,
    budget: float | None = None,
    quantile: float | None = None,
    min_accuracy: float | None = None,
    weights: Mapping[str, float] | None = None,
    benchmark: Asked = "tiny",
    lambdas: str | Sequence[float] = FINE,
    k: int = 8,
    quiet: bool = False,
    **options: Unpack[Options],
) -> Choice:
    """Choose λ with a part of a sweep: a few λ round the transition, then a race that samples the better half on.

    A quarter of the questions is kept to report on. After Ctrl-C the same call goes on; another goal in the same folder
    uses what is there. A run that is there already chooses without sampling: `Run.choose`.
    Parameters that are not described here are those of `sweep`.

    Args:
        budget: most tokens per response, on average, or in the share `quantile` of responses.
        min_accuracy: in place of a budget: least Mean@k, 0–1; the fewest tokens are chosen.
        weights: of several benchmarks in the means of accuracy and tokens; those that are not named weigh 1.

    Raises:
        MullError: neither or both of budget and min_accuracy, fewer than 6 questions, or as `sweep`.
    """
    goal = Goal(budget=budget, quantile=quantile, min_accuracy=min_accuracy, weights=weights)
    observer = observer_of(quiet)
    planned = plan_of(pair, benchmark, lambdas, k, None, {}, options)
    _warn(planned, observer)
    return Choice.of(session.race(planned.plan, Path(out), goal, planned.loader, observer))


def _warn(planned: Planned, observer: Observer) -> None:
    for warning in planned.warnings:
        observer.say(f"warning: {warning}")
    if planned.plan.pair is not None:
        observer.say(f"donor of template, tokenizer and generation config: {planned.plan.pair.donor_side}")
