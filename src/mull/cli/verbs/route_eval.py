"""`mull route eval`: does λ per query pay? Every estimator against static λ, budgets and other controls."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mull.api.progress.terminal import Terminal
from mull.cli.options.common import JsonOption, consoles, given_options
from mull.cli.options.computing import EngineArguments, EngineName, EngineOption, engine_arguments
from mull.cli.options.groups import grouped
from mull.cli.options.plans import DrawingOptions
from mull.cli.options.routes import (
    HeadOption,
    RouteBenchmarkOptions,
    RoutePairOptions,
    policies_of,
    refuse_beside_replay,
    replayed_policies,
    row_arithmetic,
    row_engine,
    vllm_row_engine,
)
from mull.cli.rendering.plain import print_json
from mull.cli.rendering.routes import print_result, print_sensitivity
from mull.errors import MullError
from mull.merging.coefficients import parse_lambdas

if TYPE_CHECKING:
    from mull.dynamic.evaluation.comparison import Table
    from mull.dynamic.evaluation.result import Result
    from mull.dynamic.probing.engine import RowEngine
    from mull.reports.routing.build import Compared


@grouped
def route_eval(
    context: typer.Context,
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
        str | None,
        typer.Option(help="Thinking budgets of the Thinking end to compare with (default: none).", metavar="TOKENS"),
    ] = None,
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
    replay: Annotated[
        list[Path] | None,
        typer.Option(
            help="Sample nothing: λ, budgets and responses are those of this run of `mull sweep`. Repeatable, one for "
            "each benchmark.",
            metavar="RUN",
        ),
    ] = None,
    sensitivity: Annotated[
        bool, typer.Option("--sensitivity", help="Also print how much the constants of conf matter (the page does).")
    ] = False,
    engine: EngineOption = EngineName.local,
    engine_option: EngineArguments = None,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Write the page, figures and tables.")] = True,
    json: JsonOption = False,
    *,
    pair: RoutePairOptions,
    benchmarks: RouteBenchmarkOptions,
    sampling: DrawingOptions,
) -> None:
    """Sample every estimator's choices and compare them with static λ at the same tokens, paired by question.

    Beside the estimators stand: the same λ by lot, an oracle, the Thinking end under hard budgets, told to be brief, or
    stopped once a forced answer is sure. Tokens spent to choose λ are charged. Questions that trained or fitted an
    estimator are left out. Stop with Ctrl-C at any time; the same command goes on.

    With --replay no response is sampled: estimators choose λ anew, and accuracy and tokens at λ(q) are interpolated
    between the neighbouring λ on record. Table and page say so.

    Examples:

    `mull route eval --head head.safetensors --budgets 20,60,120 --out route`

    `mull route eval --instruct A --thinking B --benchmark gsm8k,math500,amc23,aime24,aime25 -k 4 --out route`

    `mull route eval --head head.safetensors --replay run --out replayed`

    On GPUs, with vLLM:

    `mull route eval --engine vllm --instruct A --thinking B --benchmark math500 --out route`
    """
    from mull.dynamic.evaluation.sensitivity import confidences, study
    from mull.dynamic.head import Head

    observer = Terminal(consoles()[1])
    if engine == EngineName.vllm_server:
        raise MullError("route eval reads the model's states between responses", "give --engine vllm")
    arguments = engine_arguments(engine, engine_option, pair.device)

    def load() -> RowEngine:
        if engine == EngineName.local:
            return row_engine(opened, pair)
        made = vllm_row_engine(opened, pair, arguments)
        context.call_on_close(made.close)
        return made

    trained = Head.open(head) if head else None
    compared: Compared
    if replay:
        from mull.dynamic.evaluation.replay import Replay, recorded
        from mull.dynamic.evaluation.replay import replay as replay_records

        refuse_beside_replay(given_options(context))
        runs = recorded(replay, trained.seen if trained else frozenset())
        opened = pair.open()
        pair.check_hashes(opened, runs[0].pair, str(runs[0].folder))
        if trained is not None:
            trained.check(opened.fingerprints)
        asked = Replay(pair=opened, benchmarks=runs, policies=replayed_policies(trained, estimators, runs))
        found = replay_records(asked, load, observer, prefill_weight=prefill_weight)
        compared, result, measured = asked, found.result, found.measured
    else:
        from mull.dynamic.evaluation.sensitivity import on_record
        from mull.dynamic.evaluation.session import Evaluation, compare, evaluate, refuse_training_seed, unseen

        questions = benchmarks.load()
        if trained is not None:
            questions = unseen(questions, trained.seen, trained.digest)
            refuse_training_seed(questions, trained)
        limits = sampling.sampling
        policies = policies_of(
            trained,
            estimators,
            parse_lambdas(lambdas),
            budgets,
            limits(questions[0]),
            early_exit=(exit_every, exit_at) if exit_every else None,
            brief=brief,
        )
        opened = pair.open()
        if trained is not None:
            trained.check(opened.fingerprints)
        evaluation = Evaluation(
            pair=opened,
            benchmarks=questions,
            policies=policies,
            k=sampling.k,
            sampling=limits,
            arithmetic=row_arithmetic(opened, pair, engine),
            seed=sampling.seed,
        )
        evaluate(evaluation, out, load, observer)
        result = compare(evaluation, out, prefill_weight=prefill_weight)
        compared, measured = evaluation, on_record(evaluation, out)
    studied = study(measured, confidences(compared.policies), prefill_weight=prefill_weight)
    _show(compared, result, studied, out, report=report, sensitivity=sensitivity, json=json)


def _show(
    compared: Compared,
    result: Result,
    studied: Table | None,
    out: Path,
    *,
    report: bool,
    sensitivity: bool,
    json: bool,
) -> None:
    from mull.reports.routing.build import write_report

    stdout, _ = consoles()
    if report:
        write_report(compared, result, out, studied)
    if json:
        tables = {table.benchmark: table for table in result.tables}
        print_json({**tables, **({"sensitivity": studied} if studied else {})})
        return
    print_result(result, stdout)
    if sensitivity and studied:
        print_sensitivity(studied, stdout)
    if report:
        stdout.print(f"\npage: {out / 'route.html'}", highlight=False, markup=False, soft_wrap=True)
