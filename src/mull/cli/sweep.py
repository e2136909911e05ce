"""`mull sweep`: sample answers at every λ of a grid, into a run folder that can be continued."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mull.cli.endpoint_options import (
    GRID,
    ConcurrencyOption,
    EndpointMapOption,
    EndpointOption,
    KeyVariableOption,
    ModelMapOption,
    OmitOption,
    PerMinuteOption,
    RetriesOption,
    TimeoutOption,
    endpoints_from,
)
from mull.cli.options import AllowOption, Donor, DonorOption, ExtrapolateOption, consoles

if TYPE_CHECKING:
    from mull.merging.coefficients import Coefficients
    from mull.study.records import Sample
    from mull.sweeps.plan import SweepPlan


def sweep(
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
    data: Annotated[
        Path | None, typer.Option(help="The benchmark's data file; from the hub by default.", metavar="FILE")
    ] = None,
    grader: Annotated[
        str | None, typer.Option(help="Grader (see `mull benchmarks`); the benchmark's own by default.", metavar="NAME")
    ] = None,
    lambdas: Annotated[
        str | None,
        typer.Option(
            help="start:stop:step, or a list as in 0,0.4,0.8 (default: 0:1:0.1, or those of --endpoint-map).",
            metavar="GRID",
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", help="Samples per question and λ.", min=1)] = 8,
    questions: Annotated[int | None, typer.Option(help="Only so many questions.", min=1)] = None,
    question_seed: Annotated[int, typer.Option(help="Which questions, for benchmarks that make them.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.")] = 0,
    temperature: Annotated[float, typer.Option(help="0 = greedy.")] = 0.6,
    top_p: Annotated[float, typer.Option("--top-p")] = 0.95,
    top_k: Annotated[int, typer.Option("--top-k", help="0 = no limit.")] = 20,
    max_tokens: Annotated[
        int | None, typer.Option(help="Tokens per response; the benchmark's limit by default.", min=1)
    ] = None,
    donor: DonorOption = Donor.thinking,
    layers: Annotated[
        str | None,
        typer.Option(help="λ in these layers only (both included), Instruct elsewhere.", metavar="FIRST-LAST"),
    ] = None,
    modules: Annotated[
        str | None, typer.Option(help="λ in these module kinds only, comma-separated.", metavar="KINDS")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …")] = "auto",
    batch_size: Annotated[
        int | None, typer.Option(help="Responses generated at once; fitted by default.", min=1)
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that ships with the model.")
    ] = False,
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
    from mull.cli.merge import print_warnings
    from mull.cli.sweep_remote import refuse_local, remote_engine, sample_remote
    from mull.engines.base import Sampling
    from mull.errors import MullError
    from mull.merging.coefficients import Coefficients
    from mull.sweeps.plan import SweepPlan
    from mull.sweeps.settings import Setting

    stdout, stderr = consoles()
    chosen = load_benchmark(benchmark, questions=questions, seed=question_seed, data=data, grader=grader)
    try:
        sampling = Sampling(
            temperature=temperature, top_p=top_p, top_k=top_k, max_tokens=max_tokens or chosen.max_tokens
        )
    except ValueError as error:
        raise MullError(str(error)) from None
    if endpoint or model_map or endpoint_map:
        local = {
            "--instruct": instruct, "--thinking": thinking, "--layers": layers, "--modules": modules, "--allow": allow,
            "--donor": donor != Donor.thinking, "--device": device != "auto", "--batch-size": batch_size,
            "--trust-remote-code": trust_remote_code,
        }  # fmt: skip
        refuse_local(option for option, value in local.items() if value)
        endpoints = endpoints_from(endpoint, model_map, endpoint_map, lambdas, omit or (), extrapolate=extrapolate)
        settings = [Setting.of(Coefficients.scalar(lam, extrapolate=extrapolate)) for lam in endpoints.lambdas]
        plan = SweepPlan(None, settings, chosen, k, sampling, seed, "remote", endpoints=endpoints)
        engine = remote_engine(endpoints, key_variable, concurrency, retries, timeout, per_minute)
        samples = sample_remote(plan, run, engine)
    else:
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
            from mull.engines.local import arithmetic

            computed = arithmetic(pair.donor.folder, device)
        plan = SweepPlan(pair, [Setting.of(each) for each in weights], chosen, k, sampling, seed, computed)
        samples = sample(plan, run, device, batch_size, trust_remote_code, strict=max_tokens is not None)
    from mull.cli.report import print_summary

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


def sample(
    plan: SweepPlan,
    run: Path,
    device: str = "auto",
    batch_size: int | None = None,
    trust_remote_code: bool = False,
    *,
    strict: bool = False,
) -> list[Sample]:
    """Run `plan` in the folder `run` under a live table; returns all samples on record.

    `strict`: refuse a token limit that the context cannot hold, instead of saying what holds instead.
    """
    from mull.cli.progress import item_progress
    from mull.cli.recording import complete_samples, record_samples
    from mull.sweeps.run import render_prompts

    _, stderr = consoles()
    pair = plan.pair
    assert pair is not None
    with stderr.status("drawing the questions"):
        questions = len(plan.benchmark.questions())
    done = complete_samples(plan, run, stderr)
    if done is not None:
        return done
    with stderr.status("loading the two checkpoints"):
        from mull.engines.local import LocalEngine

        engine = LocalEngine(
            pair.instruct.folder,
            pair.thinking.folder,
            donor=pair.donor_side,
            device=device,
            batch_size=batch_size,
            trust_remote_code=trust_remote_code,
            others={role: checkpoint.folder for role, checkpoint in plan.others.items()},
        )
    with item_progress("preparing the prompts", questions, stderr) as advance:
        prompts = render_prompts(plan, engine, advance)
    longest = max(len(prompt) for prompt in prompts.values())
    notice = limit_notice(plan.sampling.max_tokens, engine.context, longest, strict=strict)
    if notice:
        stderr.print(notice, highlight=False, soft_wrap=True)
    return record_samples(plan, run, engine, prompts, stderr)


def limit_notice(limit: int, context: int, longest: int, *, strict: bool) -> str:
    """What to say of a limit of `limit` tokens per response when the longest prompt takes `longest` of the context.

    Nothing where it fits. Raises `MullError` where it does not and `strict`, and where no room is left at all.
    """
    from mull.errors import MullError

    room = context - longest
    if limit <= room:
        return ""
    why = f"the model's context is {context:,} tokens, of which the longest prompt takes {longest:,}"
    if room < 1:
        raise MullError(f"a question leaves no room for an answer: {why}", "choose a model with a longer context")
    if strict:
        raise MullError(f"--max-tokens {limit} does not fit: {why}", f"give --max-tokens {room} or less")
    return f"limit per response: {room:,} tokens, not the benchmark's {limit:,}: {why}"
