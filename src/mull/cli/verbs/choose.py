"""`mull choose`: which λ, for a budget of tokens or a floor of accuracy; from a run, or from few samples of its own."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mull.cli.options.common import (
    AllowOption,
    BatchSizeOption,
    DataOption,
    DeviceOption,
    Donor,
    DonorOption,
    GraderOption,
    QuestionSeedOption,
    QuestionsOption,
    SeedOption,
    TemperatureOption,
    TopKOption,
    TopPOption,
    TrustOption,
    consoles,
    given_options,
)
from mull.cli.options.endpoints import (
    ConcurrencyOption,
    EndpointMapOption,
    EndpointOption,
    KeyVariableOption,
    ModelMapOption,
    OmitOption,
    PerMinuteOption,
    RetriesOption,
    Servers,
    TimeoutOption,
    refuse_local,
    refuse_requests,
)
from mull.errors import MullError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from mull.analysis.choosing.choose import Choice
    from mull.analysis.choosing.options import Goal
    from mull.analysis.choosing.race import Outcome
    from mull.analysis.records import Sample
    from mull.benchmarks import Benchmark
    from mull.engines.base import Sampling
    from mull.runs.plan import SweepPlan
    from mull.runs.settings import Setting

_GRID = "0:1:0.05"
_OF_A_RUN = ("folder", "budget", "quantile", "min_accuracy", "json")
"""What a run that is there can be asked."""


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
    instruct: Annotated[
        str | None, typer.Option("--instruct", help="Without a run: the Instruct checkpoint.", metavar="MODEL")
    ] = None,
    thinking: Annotated[
        str | None, typer.Option("--thinking", help="Without a run: the Thinking checkpoint.", metavar="MODEL")
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option("--run", help="Without a run: folder for its samples, made or continued.", metavar="DIR"),
    ] = None,
    benchmark: Annotated[str, typer.Option(help="Benchmark, as in `mull sweep`.", metavar="NAME")] = "tiny",
    data: DataOption = None,
    grader: GraderOption = None,
    lambdas: Annotated[
        str | None,
        typer.Option(help=f"λ to choose from (default: {_GRID}, or those of --endpoint-map).", metavar="GRID"),
    ] = None,
    k: Annotated[int, typer.Option("-k", help="Most samples per question and λ.", min=1)] = 8,
    questions: QuestionsOption = None,
    question_seed: QuestionSeedOption = 0,
    seed: SeedOption = 0,
    temperature: TemperatureOption = 0.6,
    top_p: TopPOption = 0.95,
    top_k: TopKOption = 20,
    max_tokens: Annotated[
        int | None, typer.Option(help="Where a response is cut off, tokens; the benchmark's limit by default.", min=1)
    ] = None,
    donor: DonorOption = Donor.thinking,
    device: DeviceOption = "auto",
    batch_size: BatchSizeOption = None,
    trust_remote_code: TrustOption = False,
    allow: AllowOption = None,
    endpoint: EndpointOption = None,
    model_map: ModelMapOption = None,
    endpoint_map: EndpointMapOption = None,
    key_variable: KeyVariableOption = None,
    concurrency: ConcurrencyOption = 16,
    per_minute: PerMinuteOption = None,
    retries: RetriesOption = 6,
    timeout: TimeoutOption = 3600.0,
    omit: OmitOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Choose λ: the most accurate within a budget of tokens, or the cheapest above a floor of accuracy.

    From a run, finished or not: `mull choose DIR --budget 60`. Only measured λ are chosen from, since tokens are
    not monotone in λ. Of λ within one standard error of the best the one with fewer tokens is taken.

    Without a run it samples what it needs of a grid, a fraction of a sweep: a few λ round the transition, then a race
    in which the better half is sampled twice as much. A quarter of the questions is kept to report on. After Ctrl-C the
    same command goes on; another goal in the same folder uses what is there.

    Examples:

    `mull choose --instruct A --thinking B --benchmark tiny --budget 60 --run chosen`

    Models that servers hold already need no checkpoints here:

    `mull choose --endpoint http://host:8000/v1 --model-map 'name@{lambda}' --budget 60 --run chosen`
    """
    from mull.analysis.choosing.options import Goal

    goal = Goal(budget=budget, quantile=quantile, min_accuracy=min_accuracy)
    servers = Servers(endpoint, model_map, endpoint_map, key_variable, concurrency, per_minute, retries, timeout, omit)
    sampling = {"--instruct": instruct, "--thinking": thinking, "--run": run}
    if folder is not None:
        new = [option for name, option in given_options(context).items() if name not in _OF_A_RUN]
        if new:
            raise MullError(
                f"{folder} is a run to choose from, and {', '.join(new)} asks for a new one", "give one of the two"
            )
        return _from_run(folder, goal, json=json)
    if servers.given:
        local = {
            "--instruct": instruct, "--thinking": thinking, "--allow": allow, "--donor": donor != Donor.thinking,
            "--device": device != "auto", "--batch-size": batch_size, "--trust-remote-code": trust_remote_code,
        }  # fmt: skip
        refuse_local(local)
        sampling = {"--run": run}
    else:
        refuse_requests(given_options(context))
    missing = [option for option, value in sampling.items() if value is None]
    if run is None or missing:
        needed = "--run" if servers.given else "--instruct, --thinking and --run"
        raise MullError(f"{missing[0]} is missing", f"give the folder of a run, or {needed}")
    from mull.benchmarks import load_benchmark
    from mull.cli.rendering.observer import Terminal
    from mull.engines.base import Sampling
    from mull.merging.coefficients import Coefficients, parse_lambdas
    from mull.runs import session
    from mull.runs.plan import SweepPlan
    from mull.runs.session import load_local, load_remote
    from mull.runs.settings import Setting

    stdout, stderr = consoles()
    chosen = load_benchmark(benchmark, questions=questions, seed=question_seed, data=data, grader=grader)
    try:
        drawn = Sampling(temperature=temperature, top_p=top_p, top_k=top_k, max_tokens=max_tokens or chosen.max_tokens)
    except ValueError as error:
        raise MullError(str(error)) from None
    endpoints = servers.endpoints(lambdas, grid=_GRID) if servers.given else None
    lams = endpoints.lambdas if endpoints else parse_lambdas(lambdas or _GRID)
    settings = [Setting.of(Coefficients.scalar(lam)) for lam in lams]
    if endpoints:
        remote = servers.engine(endpoints)
        plan = SweepPlan(None, settings, chosen, k, drawn, seed, "remote", endpoints=endpoints)
    else:
        remote = None
        assert instruct is not None and thinking is not None
        plan = _local_plan(instruct, thinking, donor, allow, device, settings, chosen, k, drawn, seed, stderr)

    load = (
        load_remote(remote)
        if remote
        else load_local(device, batch_size, trust_remote_code, strict=max_tokens is not None)
    )
    outcome = session.race(plan, run, goal, load, Terminal(stderr))
    _show(outcome.choice, outcome.deciding, stdout, json=json, outcome=outcome)
    if not json:
        share = outcome.asked / outcome.full
        spent = f"{outcome.asked:,} responses, {share:.0%} of the {outcome.full:,} of the whole grid"
        stdout.print(f"\n{spent}; run: {run}", highlight=False, markup=False, soft_wrap=True)
        if outcome.choice.pick is not None and endpoints is None:
            command = (
                f"mull merge --instruct {instruct} --thinking {thinking} --lambda {outcome.choice.pick.setting} -o out"
            )
            stdout.print(f"next: {command}", highlight=False, markup=False, soft_wrap=True)
    return int(outcome.choice.pick is None)


def _from_run(folder: Path, goal: Goal, *, json: bool) -> int:
    from mull.analysis.choosing.choose import choose as choose_from
    from mull.analysis.comparable import comparable
    from mull.runs.store import RunStore

    stdout, stderr = consoles()
    with RunStore.open(folder) as store:
        samples = store.samples(texts=False)
        planned, k, under_way = len(store.questions), store.plan["k"], store.under_way
    found = comparable(samples, planned, k, under_way)
    if len(found.left_out) == len({sample.setting for sample in samples}):
        stderr.print("no λ is finished: short answers come first, so the figures may change", highlight=False)
    elif found.left_out:
        said = f"not finished, so left out: λ = {', '.join(found.left_out)}"
        stderr.print(said, highlight=False, markup=False)
    if found.samples and found.questions < planned:
        stderr.print(f"on the {found.questions} of {planned} questions that all λ were asked", highlight=False)
    choice = choose_from(found.samples, goal)
    _show(choice, found.samples, stdout, json=json)
    return int(choice.pick is None)


def _show(
    choice: Choice, samples: Sequence[Sample], stdout: Console, *, json: bool, outcome: Outcome | None = None
) -> None:
    from mull.analysis.choosing.worth import what_is_open
    from mull.cli.rendering.choice import as_json, print_choice

    still = what_is_open(samples, choice)
    if json:
        typer.echo(jsonlib.dumps(as_json(choice, still, outcome), ensure_ascii=False, indent=2))
    else:
        print_choice(choice, still, stdout, outcome)


def _local_plan(
    instruct: str,
    thinking: str,
    donor: Donor,
    allow: list[str] | None,
    device: str,
    settings: list[Setting],
    benchmark: Benchmark,
    k: int,
    sampling: Sampling,
    seed: int,
    stderr: Console,
) -> SweepPlan:
    from mull.checkpoints.pair import Pair
    from mull.cli.rendering.warnings import print_warnings
    from mull.runs.plan import SweepPlan

    pair = Pair.open(instruct, thinking, donor=donor.value)
    print_warnings(pair.check(allow or ()), stderr)
    with stderr.status("starting torch"):
        from mull.engines.local.engine import arithmetic

        engine = arithmetic(pair.donor.folder, device)
    return SweepPlan(pair, settings, benchmark, k, sampling, seed, engine)
