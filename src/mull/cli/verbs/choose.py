"""`mull choose`: which λ, for a budget of tokens or a floor of accuracy; from a run, or from few samples of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mull.analysis.choosing.options import Goal
from mull.api.choice import Choice
from mull.api.progress.terminal import Terminal
from mull.api.run import Run
from mull.cli.config import ConfigOption, kept
from mull.cli.options.common import JsonOption, by_name, consoles, given_options
from mull.cli.options.endpoints import ServerOptions
from mull.cli.options.groups import grouped
from mull.cli.options.plans import PlanOptions
from mull.cli.rendering.choice import choice_values, print_choice
from mull.cli.rendering.plain import print_json
from mull.errors import MullError
from mull.merging.coefficients import Coefficients, parse_lambdas
from mull.runs.sessions import session
from mull.words import counted

_GRID = "0:1:0.05"
_OF_A_RUN = ("folder", "budget", "quantile", "min_accuracy", "weights", "json")
"""What a run that is there can be asked."""


@grouped
def choose(
    context: typer.Context,
    folder: Annotated[Path | None, typer.Argument(help="A run to choose from.", metavar="[DIR]")] = None,
    budget: Annotated[float | None, typer.Option(help="Most tokens per response, on average.")] = None,
    quantile: Annotated[
        float | None, typer.Option(help="The budget holds for this share of responses instead, as in 0.95.")
    ] = None,
    min_accuracy: Annotated[
        float | None, typer.Option(help="Instead of a budget: least Mean@k, 0 to 1; fewest tokens are chosen.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Of several benchmarks, their weights in the means, as in gsm8k=2,math500=1 (default: 1 each).",
            metavar="NAME=WEIGHT",
        ),
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
    run: Annotated[
        Path | None,
        typer.Option("--run", help="Without a run: folder for its samples, made or continued.", metavar="DIR"),
    ] = None,
    lambdas: Annotated[
        str | None,
        typer.Option(help=f"λ to choose from (default: {_GRID}, or those of --endpoint-map).", metavar="GRID"),
    ] = None,
    *,
    options: PlanOptions,
    servers: ServerOptions,
) -> int:
    """Choose λ: the most accurate within a budget of tokens, or the cheapest above a floor of accuracy.

    From a run, finished or not: `mull choose DIR --budget 60`. Only measured λ are chosen from, since tokens are
    not monotone in λ. Of λ within one standard error of the best the one with fewer tokens is taken.

    Without a run it samples what it needs of a grid, a fraction of a sweep: a few λ round the transition, then a race
    in which the better half is sampled twice as much. A quarter of the questions is kept to report on. After Ctrl-C the
    same command goes on; another goal in the same folder uses what is there.

    Examples:

    `mull choose --instruct A --thinking B --benchmark tiny --budget 60 --run chosen`

    By several benchmarks, of which the first counts twice:

    `mull choose DIR --budget 1500 --weights gsm8k=2,math500=1`

    Models that servers hold already need no checkpoints here:

    `mull choose --endpoint http://host:8000/v1 --model-map 'name@{lambda}' --budget 60 --run chosen`
    """
    own = None if weights is None else by_name("--weights", weights, float)
    goal = Goal(budget=budget, quantile=quantile, min_accuracy=min_accuracy, weights=own)
    given = given_options(context)
    if folder is not None:
        new = [option for name, option in given.items() if name not in _OF_A_RUN]
        if new:
            raise MullError(
                f"{folder} is a run to choose from, and {', '.join(new)} asks for a new one", "give one of the two"
            )
        stdout, stderr = consoles()
        choice = Run.open(folder).choose(goal)
        for note in choice.notes:
            stderr.print(note, highlight=False, markup=False)
        _show(choice, stdout, json=json)
        return int(choice.pick is None)
    needed = {"--run": run} if servers.given else {
        "--instruct": options.pair.instruct, "--thinking": options.pair.thinking, "--run": run,
    }  # fmt: skip
    missing = [option for option, value in needed.items() if value is None]
    if run is None or missing:
        raise MullError(f"{missing[0]} is missing", f"give the folder of a run, or {' and '.join(needed)}")

    def scalars(grid: str) -> list[Coefficients]:
        return [Coefficients.scalar(lam) for lam in parse_lambdas(grid)]

    plan, loader = options.along_lambda(lambdas, _GRID, scalars, servers, given)
    stdout, stderr = consoles()
    with kept(config, run):
        outcome = session.race(plan, run, goal, loader, Terminal(stderr))
    _show(Choice.of(outcome), stdout, json=json)
    if not json:
        share = outcome.asked / outcome.full
        spent = f"{counted(outcome.asked, 'response')}, {share:.0%} of the {outcome.full:,} of the whole grid"
        stdout.print(f"\n{spent}; run: {run}", highlight=False, markup=False, soft_wrap=True)
        if outcome.choice.pick is not None and not servers.given:
            ends = f"--instruct {options.pair.instruct} --thinking {options.pair.thinking}"
            command = f"mull merge {ends} --lambda {outcome.choice.pick.setting} --run {run} -o out"
            stdout.print(f"next: {command}", highlight=False, markup=False, soft_wrap=True)
    return int(outcome.choice.pick is None)


def _show(choice: Choice, stdout: Console, *, json: bool) -> None:
    if json:
        print_json(choice_values(choice))
    else:
        print_choice(choice, stdout)
