"""`mull route eval`: does λ per query pay? Every estimator against static λ, budgets and other controls."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from mull.cli.options.common import JsonOption, consoles
from mull.cli.options.groups import grouped
from mull.cli.options.routes import (
    HeadOption,
    RouteBenchmarkOptions,
    RoutePairOptions,
    RouteSamplingOptions,
    hashes,
    policies_of,
    row_arithmetic,
    row_engine,
)
from mull.cli.rendering.observer import Terminal
from mull.cli.rendering.plain import print_json
from mull.cli.rendering.routes import print_result
from mull.merging.coefficients import parse_lambdas


@grouped
def route_eval(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the evaluation: a run for each benchmark.")
    ] = Path("route"),
    head: HeadOption = None,
    estimators: Annotated[
        str | None,
        typer.Option(help="Estimators, comma-separated (default: all that there are).", metavar="NAMES"),
    ] = None,
    lambdas: Annotated[str, typer.Option(help="Static λ to compare with; 0 and 1 among them.", metavar="GRID")] = (
        "0,0.2,0.4,0.5,0.6,0.7,0.8,0.9,1"
    ),
    budgets: Annotated[
        str, typer.Option(help="Thinking budgets of the Thinking end to compare with; '' for none.", metavar="TOKENS")
    ] = "",
    exit_every: Annotated[
        int | None,
        typer.Option(help="Early exit: force an answer after every so many tokens (default: no such control).", min=1),
    ] = None,
    exit_at: Annotated[
        float, typer.Option(help="Early exit: close the thought from this confidence on.", min=0, max=1)
    ] = 0.95,
    brief: Annotated[
        bool, typer.Option("--brief", help='Also the Thinking end with a "be brief" system prompt.')
    ] = False,
    prefill_weight: Annotated[
        float,
        typer.Option(help="Count a prompt token that is read to choose λ as so many generated ones.", min=0, max=4),
    ] = 0.0,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Write the page, figures and tables.")] = True,
    json: JsonOption = False,
    *,
    pair: RoutePairOptions,
    benchmarks: RouteBenchmarkOptions,
    sampling: RouteSamplingOptions,
) -> None:
    """Sample every estimator's choices and compare them with static λ at the same tokens, paired by question.

    Beside the estimators stand: the same λ by lot, an oracle, the Thinking end under hard budgets, told to be brief, or
    stopped once a forced answer is sure. Tokens spent to choose λ are charged. Questions that trained or fitted an
    estimator are left out. Stop with Ctrl-C at any time; the same command goes on.

    Examples:

    `mull route eval --head head.safetensors --budgets 20,60,120 --out route`

    `mull route eval --instruct A --thinking B --benchmark gsm8k,math500,amc23,aime24,aime25 -k 4 --out route`
    """
    from mull.dynamic.evaluation.session import Evaluation, compare, evaluate, unseen
    from mull.dynamic.head import Head
    from mull.reports.routing.build import write_report

    stdout, stderr = consoles()
    observer = Terminal(stderr)
    trained = Head.open(head) if head else None
    asked = benchmarks.load()
    if trained is not None:
        asked = unseen(asked, trained.seen, trained.digest)
    limits = sampling.sampling_of
    policies = policies_of(
        trained,
        estimators,
        parse_lambdas(lambdas),
        budgets,
        limits(asked[0]),
        early_exit=(exit_every, exit_at) if exit_every else None,
        brief=brief,
    )
    opened = pair.open()
    if trained is not None:
        trained.check(hashes(opened))
    evaluation = Evaluation(
        pair=opened,
        benchmarks=asked,
        policies=policies,
        k=sampling.k,
        sampling=limits,
        arithmetic=row_arithmetic(opened, pair),
        seed=sampling.seed,
    )
    evaluate(evaluation, out, partial(row_engine, opened, pair), observer)
    result = compare(evaluation, out, prefill_weight=prefill_weight)
    if report:
        write_report(evaluation, result, out)
    if json:
        print_json({table.benchmark: table for table in result.tables})
        return
    print_result(result, stdout)
    if report:
        stdout.print(f"\npage: {out / 'route.html'}", highlight=False, markup=False, soft_wrap=True)
