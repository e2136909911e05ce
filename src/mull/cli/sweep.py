"""`mull sweep`: sample answers at every λ of a grid, into a run folder that can be continued."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mull.cli.options import (
    AllowOption,
    Donor,
    DonorOption,
    ExtrapolateOption,
    InstructOption,
    ThinkingOption,
    consoles,
)

if TYPE_CHECKING:
    from mull.study.records import Sample
    from mull.sweeps.plan import SweepPlan


def sweep(
    instruct: InstructOption,
    thinking: ThinkingOption,
    run: Annotated[Path, typer.Option("--run", help="Run folder: made, or continued.", metavar="DIR")],
    benchmark: Annotated[str, typer.Option(help="Benchmark: tiny.", metavar="NAME")] = "tiny",
    lambdas: Annotated[
        str, typer.Option(help="start:stop:step, or a list as in 0,0.4,0.8.", metavar="GRID")
    ] = "0:1:0.1",
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
) -> None:
    """Sample k answers per question at every λ, grade them, and keep them in a run folder.

    Every response is on record as soon as it is finished: stop with Ctrl-C at any time, and the same command goes on.
    `mull report DIR` shows the run, finished or not.

    Example:

    `mull sweep --instruct A --thinking B --benchmark tiny --lambdas 0:1:0.1 -k 8 --run run`
    """
    from mull.benchmarks import load_benchmark
    from mull.checkpoints.pair import Pair
    from mull.cli.merge import print_warnings
    from mull.engines.base import Sampling
    from mull.errors import MullError
    from mull.merging.coefficients import Coefficients, parse_lambdas, parse_layers
    from mull.sweeps.plan import SweepPlan
    from mull.sweeps.settings import Setting

    stdout, stderr = consoles()
    chosen = load_benchmark(benchmark, questions=questions, seed=question_seed)
    span = parse_layers(layers) if layers is not None else None
    kinds = [kind.strip() for kind in modules.split(",")] if modules is not None else None
    settings = [
        Coefficients.only(lam, layers=span, modules=kinds, extrapolate=extrapolate)
        for lam in parse_lambdas(lambdas, extrapolate=extrapolate)
    ]
    try:
        sampling = Sampling(
            temperature=temperature, top_p=top_p, top_k=top_k, max_tokens=max_tokens or chosen.max_tokens
        )
    except ValueError as error:
        raise MullError(str(error)) from None
    pair = Pair.open(instruct, thinking, donor=donor.value)
    warnings = pair.check(allow or ())
    names = [tensor.name for tensor in pair.tensors]
    for setting in settings:
        setting.resolve(names)  # refuse a selector that matches nothing before the weights are loaded
    print_warnings(warnings, stderr)
    stderr.print(f"donor of template, tokenizer and generation config: {pair.donor_side}", highlight=False)
    with stderr.status("starting torch"):
        from mull.engines.local import arithmetic

        engine = arithmetic(pair.donor.folder, device)
    plan = SweepPlan(pair, [Setting.of(each) for each in settings], chosen, k, sampling, seed, engine)
    samples = sample(plan, run, device, batch_size, trust_remote_code, strict=max_tokens is not None)
    from mull.cli.report import print_summary

    print_summary(samples, stdout)
    stdout.print(f"\nrun: {run}\nnext: mull report {run}", highlight=False, markup=False, soft_wrap=True)


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
    from mull.cli.live import clock, run_live
    from mull.cli.progress import item_progress
    from mull.sweeps.run import provenance, render_prompts
    from mull.sweeps.store import DATABASE, RunStore

    _, stderr = consoles()
    with stderr.status("drawing the questions"):
        questions = len(plan.benchmark.questions())
    if (run / DATABASE).exists():  # what can be refused is refused before the weights are loaded
        with RunStore.record(run, plan, provenance(plan)) as store:
            if store.count() == plan.total:
                complete = f"{run} is complete: {plan.total} responses on record"
                stderr.print(complete, highlight=False, markup=False, soft_wrap=True)
                return store.samples(texts=False)
    with stderr.status("loading the two checkpoints"):
        from mull.engines.local import LocalEngine

        engine = LocalEngine(
            plan.pair.instruct.folder,
            plan.pair.thinking.folder,
            donor=plan.pair.donor_side,
            device=device,
            batch_size=batch_size,
            trust_remote_code=trust_remote_code,
        )
    with item_progress("preparing the prompts", questions, stderr) as advance:
        prompts = render_prompts(plan, engine, advance)
    longest = max(len(prompt) for prompt in prompts.values())
    notice = limit_notice(plan.sampling.max_tokens, engine.context, longest, strict=strict)
    if notice:
        stderr.print(notice, highlight=False, soft_wrap=True)
    with RunStore.record(run, plan, provenance(plan)) as store:
        if store.count():
            stderr.print(f"going on from {store.count()} of {plan.total} responses", highlight=False)
        done = run_live(plan, engine, store, stderr, prompts)
        speed = f"{done.tokens_per_second:,.0f} tokens/s"
        stderr.print(f"{done.new} responses in {clock(done.seconds)}, {speed}", highlight=False)
        return store.samples(texts=False)


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
