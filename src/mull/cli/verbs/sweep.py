"""`mull sweep`: sample answers at every λ of a grid, into a run folder that can be continued."""

from __future__ import annotations

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
    ExtrapolateOption,
    GraderOption,
    MaxTokensOption,
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
    GRID,
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

if TYPE_CHECKING:
    from mull.merging.coefficients import Coefficients


def sweep(
    context: typer.Context,
    run: Annotated[Path, typer.Option("--run", help="Run folder: made, or continued.", metavar="DIR")],
    instruct: Annotated[
        str | None, typer.Option(help="Instruct checkpoint: a folder or a hub id.", metavar="MODEL")
    ] = None,
    thinking: Annotated[
        str | None, typer.Option(help="Thinking checkpoint: a folder or a hub id.", metavar="MODEL")
    ] = None,
    benchmark: Annotated[
        str, typer.Option(help="Benchmark (see `mull benchmarks`), or a file of your own.", metavar="NAME")
    ] = "tiny",
    data: DataOption = None,
    grader: GraderOption = None,
    lambdas: Annotated[
        str | None,
        typer.Option(
            help="start:stop:step, or a list as in 0,0.4,0.8 (default: 0:1:0.1, or those of --endpoint-map).",
            metavar="GRID",
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", help="Samples per question and λ.", min=1)] = 8,
    questions: QuestionsOption = None,
    question_seed: QuestionSeedOption = 0,
    seed: SeedOption = 0,
    temperature: TemperatureOption = 0.6,
    top_p: TopPOption = 0.95,
    top_k: TopKOption = 20,
    max_tokens: MaxTokensOption = None,
    donor: DonorOption = Donor.thinking,
    layers: Annotated[
        str | None,
        typer.Option(help="λ in these layers only (both included), Instruct elsewhere.", metavar="FIRST-LAST"),
    ] = None,
    modules: Annotated[
        str | None, typer.Option(help="λ in these module kinds only, comma-separated.", metavar="KINDS")
    ] = None,
    device: DeviceOption = "auto",
    batch_size: BatchSizeOption = None,
    trust_remote_code: TrustOption = False,
    allow: AllowOption = None,
    extrapolate: ExtrapolateOption = False,
    endpoint: EndpointOption = None,
    model_map: ModelMapOption = None,
    endpoint_map: EndpointMapOption = None,
    key_variable: KeyVariableOption = None,
    concurrency: ConcurrencyOption = 16,
    per_minute: PerMinuteOption = None,
    retries: RetriesOption = 6,
    timeout: TimeoutOption = 3600.0,
    omit: OmitOption = None,
) -> None:
    """Sample k answers per question at every λ, grade them, and keep them in a run folder.

    Every response is on record as soon as it is finished: stop with Ctrl-C at any time, and the same command goes on.
    `mull report DIR` shows the run, finished or not.

    Example:

    `mull sweep --instruct A --thinking B --benchmark tiny --lambdas 0:1:0.1 -k 8 --run run`

    Models that servers hold already need no checkpoints here:

    `mull sweep --endpoint http://host:8000/v1 --model-map 'name@{lambda}' --lambdas 0,0.4,0.8,1 --run run`
    """
    from mull.benchmarks import load_benchmark
    from mull.checkpoints.pair import Pair
    from mull.cli.rendering.observer import Terminal
    from mull.cli.rendering.warnings import print_warnings
    from mull.engines.base import Sampling
    from mull.errors import MullError
    from mull.merging.coefficients import Coefficients
    from mull.runs import session
    from mull.runs.plan import SweepPlan
    from mull.runs.session import load_local, load_remote
    from mull.runs.settings import Setting

    stdout, stderr = consoles()
    chosen = load_benchmark(benchmark, questions=questions, seed=question_seed, data=data, grader=grader)
    try:
        sampling = Sampling(
            temperature=temperature, top_p=top_p, top_k=top_k, max_tokens=max_tokens or chosen.max_tokens
        )
    except ValueError as error:
        raise MullError(str(error)) from None
    servers = Servers(endpoint, model_map, endpoint_map, key_variable, concurrency, per_minute, retries, timeout, omit)
    if servers.given:
        refuse_local({
            "--instruct": instruct, "--thinking": thinking, "--layers": layers, "--modules": modules, "--allow": allow,
            "--donor": donor != Donor.thinking, "--device": device != "auto", "--batch-size": batch_size,
            "--trust-remote-code": trust_remote_code,
        })  # fmt: skip
        endpoints = servers.endpoints(lambdas, extrapolate=extrapolate)
        settings = [Setting.of(Coefficients.scalar(lam, extrapolate=extrapolate)) for lam in endpoints.lambdas]
        plan = SweepPlan(None, settings, chosen, k, sampling, seed, "remote", endpoints=endpoints)
        load = load_remote(servers.engine(endpoints))
    else:
        refuse_requests(given_options(context))
        if instruct is None or thinking is None:
            missing = "--instruct" if instruct is None else "--thinking"
            raise MullError(f"{missing} is missing", "give both checkpoints, or --endpoint and --model-map")
        weights = _weights(lambdas or GRID, layers, modules, extrapolate=extrapolate)
        pair = Pair.open(instruct, thinking, donor=donor.value)
        warnings = pair.check(allow or ())
        names = [tensor.name for tensor in pair.tensors]
        for each in weights:
            each.resolve(names)  # refuse a selector that matches nothing before the weights are loaded
        print_warnings(warnings, stderr)
        stderr.print(f"donor of template, tokenizer and generation config: {pair.donor_side}", highlight=False)
        with stderr.status("starting torch"):
            from mull.engines.local.engine import arithmetic

            computed = arithmetic(pair.donor.folder, device)
        plan = SweepPlan(pair, [Setting.of(each) for each in weights], chosen, k, sampling, seed, computed)
        load = load_local(device, batch_size, trust_remote_code, strict=max_tokens is not None)
    samples = session.sweep(plan, run, load, Terminal(stderr))
    from mull.cli.rendering.summary import print_summary

    print_summary(samples, stdout)
    stdout.print(f"\nrun: {run}\nnext: mull report {run}", highlight=False, markup=False, soft_wrap=True)


def _weights(lambdas: str, layers: str | None, modules: str | None, *, extrapolate: bool) -> list[Coefficients]:
    from mull.merging.coefficients import Coefficients, parse_lambdas, parse_layers

    span = parse_layers(layers) if layers is not None else None
    kinds = [kind.strip() for kind in modules.split(",")] if modules is not None else None
    return [
        Coefficients.only(lam, layers=span, modules=kinds, extrapolate=extrapolate)
        for lam in parse_lambdas(lambdas, extrapolate=extrapolate)
    ]
