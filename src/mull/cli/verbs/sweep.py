"""`mull sweep`: sample answers at every λ of a grid into a run folder."""

from __future__ import annotations

from typing import Annotated

import typer

from mull.cli.config import ConfigOption, kept
from mull.cli.options.common import ExtrapolateOption, JsonOption, given_options, token_counts
from mull.cli.options.endpoints import GRID, ServerOptions
from mull.cli.options.groups import grouped
from mull.cli.options.plans import (
    DryRunOption,
    PlanOptions,
    RunOption,
)
from mull.cli.running import sample_and_show
from mull.merging.coefficients import Coefficients, parse_lambdas, parse_layers


@grouped
def sweep(
    context: typer.Context,
    run: RunOption,
    lambdas: Annotated[
        str | None,
        typer.Option(
            help="start:stop:step, or a list as in 0,0.4,0.8 (default: 0:1:0.1, or those of --endpoint-map).",
            metavar="GRID",
        ),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(help="λ in these layers only (both included), Instruct elsewhere.", metavar="FIRST-LAST"),
    ] = None,
    modules: Annotated[
        str | None, typer.Option(help="λ in these module kinds only, comma-separated.", metavar="KINDS")
    ] = None,
    extrapolate: ExtrapolateOption = False,
    budgeted_thinking: Annotated[
        str | None,
        typer.Option(
            help="Also sample the Thinking end under these thinking budgets, comma-separated, as in 20,50,100.",
            metavar="TOKENS",
        ),
    ] = None,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    *,
    options: PlanOptions,
    servers: ServerOptions,
) -> None:
    """Sample k answers per question at every λ, grade them, and keep them in a run folder.

    Every response is recorded as soon as it is finished. Stop with Ctrl-C at any time; the same command continues. More
    λ, a larger -k or more --questions add to an existing run. `mull report DIR` shows a run, finished or not.

    Examples:

    `mull sweep --instruct A --thinking B --benchmark tiny --lambdas 0:1:0.1 -k 8 --run run`

    Beside λ, the Thinking model with hard limits on its thoughts:

    `mull sweep --benchmark tiny --instruct A --thinking B --budgeted-thinking 20,50,100 --run run`

    Several benchmarks in one run, each with its own questions and limits, and their average:

    `mull sweep --instruct A --thinking B --benchmark gsm8k,math500 --questions gsm8k=200 --run run`

    A study in a file, `study.toml`, with one value changed:

    `mull sweep --config study.toml -k 16`

    With models on servers, no checkpoints are needed here:

    `mull sweep --endpoint http://host:8000/v1 --model-map 'name@{lambda}' --lambdas 0,0.4,0.8,1 --run run`
    """

    def weights(grid: str) -> list[Coefficients]:
        span = parse_layers(layers) if layers is not None else None
        kinds = [kind.strip() for kind in modules.split(",")] if modules is not None else None
        return [
            Coefficients.only(lam, layers=span, modules=kinds, extrapolate=extrapolate)
            for lam in parse_lambdas(grid, extrapolate=extrapolate)
        ]

    plan, loader = options.along_lambda(
        lambdas,
        GRID,
        weights,
        servers,
        given_options(context),
        extrapolate=extrapolate,
        budgets=token_counts("--budgeted-thinking", budgeted_thinking),
    )
    with kept(config, run, dry_run=dry_run):
        sample_and_show(plan, loader, run, dry_run=dry_run, json=json)
