"""`mull plan`: which way to serve or sweep a pair on which GPUs, with bounds of time and cost, before any is rented."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import Annotated

import typer

from mull.analysis.tables import PublishedRow
from mull.benchmarks.catalog import SPECS
from mull.benchmarks.several import names_in
from mull.cli.options.common import JsonOption, consoles
from mull.cli.rendering.plain import print_json
from mull.cli.rendering.scaling import (
    model_table,
    overview_table,
    refusals,
    sweep_table,
    sweep_words,
    ways_table,
)
from mull.errors import MullError, nearest
from mull.merging.coefficients import parse_lambdas
from mull.planning.configs import find
from mull.planning.cost import sweep_cost
from mull.planning.hardware import Cluster, gpu_named
from mull.planning.roofline import EFFICIENCY, assumptions
from mull.planning.sweep import Part, mean_tokens
from mull.planning.ways import Fit, Traffic, beside, fits, quantised, serving_way, sweep_way, without_plugins
from mull.reports.renderers import terminal
from mull.runs.paper.published import PUBLISHED, published_sweep
from mull.words import counted

TOKENS = 4000
"""Mean of a response where nothing is given."""


def plan(
    model: Annotated[
        str | None,
        typer.Option(help="A published pair (default: all of them), or a config.json.", metavar="MODEL"),
    ] = None,
    gpu: Annotated[str, typer.Option(help="RTX4090, L4, A100, H100, H200 or B200.", metavar="NAME")] = "H200",
    gpus: Annotated[int, typer.Option(help="GPUs of a node.", min=1, max=1024)] = 1,
    nodes: Annotated[int, typer.Option(help="Nodes.", min=1, max=1024)] = 1,
    prompt_tokens: Annotated[int, typer.Option(help="Tokens of a prompt.", min=1)] = 500,
    tokens: Annotated[
        int | None,
        typer.Option(help="Mean tokens of a response (default: 4000; of a sweep, the published ones).", min=1),
    ] = None,
    concurrent: Annotated[int, typer.Option(help="Responses under way at the same time.", min=1)] = 64,
    requests_per_second: Annotated[
        float | None, typer.Option(help="Requests that come in a second, in place of --concurrent.", min=0)
    ] = None,
    lambdas: Annotated[
        str, typer.Option(help="λ in use, of the traffic or of the sweep: start:stop:step, or a list.", metavar="GRID")
    ] = "0,0.4,0.8,1",
    benchmark: Annotated[
        str | None,
        typer.Option(help="Plan a sweep of this benchmark (see `mull benchmarks`), or of several.", metavar="NAMES"),
    ] = None,
    questions: Annotated[int | None, typer.Option(help="Ask only this many of its questions.", min=1)] = None,
    k: Annotated[int, typer.Option("-k", help="Samples per question and λ.", min=1)] = 8,
    efficiency: Annotated[
        float, typer.Option(help="Share of the bound's speed to plan with; measure yours.", min=0.01, max=1)
    ] = EFFICIENCY,
    price: Annotated[float | None, typer.Option(help="Price of a GPU hour, in any currency.", min=0)] = None,
    json: JsonOption = False,
) -> None:
    """Plan which way to serve or sweep a pair on which GPUs, with bounds of time and cost. Touches no weights.

    All is arithmetic on the model's config and the GPU's data sheet: lower bounds of time, and a planned time at an
    assumed share of that speed. Ways: merged checkpoints on a stock server, vLLM with a λ per request or one λ at a
    time in place, the local engine, low-rank adapters. Without --model: which way has room for which published pair.

    Examples:

    `mull plan --model Qwen3-30B-A3B --gpus 1`

    `mull plan --model Qwen3-4B --benchmark aime25 -k 64 --lambdas 0:1:0.2 --price 2.5`

    `mull plan --gpu RTX4090`
    """
    cluster = Cluster(gpu=gpu_named(gpu), per_node=gpus, nodes=nodes)
    grid = parse_lambdas(lambdas)
    traffic = Traffic(
        prompt=prompt_tokens,
        tokens=tokens or TOKENS,
        concurrent=concurrent if requests_per_second is None else None,
        lambdas=len(grid),
    )
    stdout, _ = consoles()
    notes = assumptions(efficiency)
    if model is None:
        if benchmark is not None:
            raise MullError("--benchmark plans the sweep of one pair", "name it by --model")
        shown = overview_table(cluster, traffic)
        if json:
            print_json({"machine": cluster, "ways": shown.frame().to_dicts(), "assumptions": notes})
            return
        stdout.print(terminal(shown), highlight=False)
        _say(["", *(f"assumed: {note}" for note in notes)])
        return
    pair = find(model)
    parts, source = _parts(benchmark, questions, k, grid, tokens) if benchmark is not None else ([], "")
    if parts:  # a sweep has one λ after the other, and as many responses at once as fit
        mean = max(1, round(sum(part.tokens or 0.0 for _, part in parts) / len(parts)))
        traffic = replace(traffic, tokens=mean, concurrent=None, lambdas=1)
    found = fits(pair, cluster, traffic)
    best, why = (sweep_way(found), "") if parts else serving_way(found, traffic)
    cost = sweep_cost(best, pair, cluster, prompt_tokens, k, parts) if best and parts else None
    if json:
        counted_as = {"parameters": pair.parameters(), "active": pair.active(), "weight_bytes": pair.weight_bytes()}
        planned = cost and {**cost._asdict(), "hours_planned": cost.hours(efficiency), "tokens_from": source}
        values = {"model": {**pair.__dict__, **counted_as, "kv_bytes_per_token": pair.kv_bytes(1)}, "machine": cluster}
        values |= {"traffic": traffic, "efficiency": efficiency, "ways": found, "best": best and best.way.key}
        print_json({**values, "reason": why, "sweep": planned, "assumptions": notes})
        return
    stdout.print(terminal(model_table(pair)), highlight=False)
    stdout.print()
    stdout.print(terminal(ways_table(found, pair, cluster, traffic, efficiency)), highlight=False)
    lines = [f"note: {line}" for line in (*refusals(found, pair, cluster, traffic), *quantised(pair))]
    if lines:
        _say(["", *lines])
    if cost is not None:
        stdout.print()
        stdout.print(terminal(sweep_table(cost, efficiency, source)), highlight=False)
        lines = ["", sweep_words(cost, efficiency, price)]
    elif benchmark is not None:
        lines = ["", "sweep: nothing has room"]
    elif best is None:
        lines = ["", f"serve: {why}"]
    else:
        lines = ["", f"serve: {best.way.title}. {why[0].upper()}{why[1:]}"]
        lines += filter(None, [without_plugins(found, best, grid)])
        if requests_per_second is not None:
            lines.append(_enough(best, requests_per_second, efficiency))
    if best is not None:
        lines += filter(None, [beside(best, pair, len(grid))])
    _say([*lines, "", *(f"assumed: {note}" for note in notes)])


def _say(lines: list[str]) -> None:
    stdout, _ = consoles()
    stdout.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def _parts(
    benchmark: str, questions: int | None, k: int, grid: list[float], tokens: int | None
) -> tuple[list[tuple[float, Part]], str]:
    """The responses of each λ with their mean tokens, and where those are from; of several benchmarks together."""
    names = names_in(benchmark)
    each = {name: _parts_of(name, questions, k, grid, tokens) for name in names}
    if len(each) < len(names):
        raise MullError(f"--benchmark {benchmark} names one twice", "name each once")
    if len(each) == 1:
        return each[benchmark]
    sums = []
    for i, lam in enumerate(grid):
        own = [parts[i][1] for parts, _ in each.values()]
        responses = sum(part.responses for part in own)
        mean = sum(part.responses * (part.tokens or 0.0) for part in own) / responses
        sums.append((lam, Part(responses, max(part.most for part in own), mean)))
    return sums, "; ".join(f"{name}: {source}" for name, (_, source) in each.items())


def _parts_of(
    benchmark: str, questions: int | None, k: int, grid: list[float], tokens: int | None
) -> tuple[list[tuple[float, Part]], str]:
    if benchmark not in SPECS:
        raise MullError(f"unknown benchmark {benchmark!r}", nearest(benchmark, SPECS))
    spec = SPECS[benchmark]
    responses = k * min(questions or spec.questions, spec.questions)
    rows: list[PublishedRow] = published_sweep(benchmark)
    measured = [(row.lam, row.tokens) for row in rows if row.lam is not None]
    if tokens is not None:
        means, source = dict.fromkeys(grid, float(tokens)), "as given by --tokens"
    elif measured:
        means, source = {lam: mean_tokens(lam, measured) for lam in grid}, f"published for {PUBLISHED}"
    else:
        means, source = dict.fromkeys(grid, float(spec.max_tokens)), "the limit; --tokens gives a mean"
    return [(lam, Part(responses, spec.max_tokens, means[lam])) for lam in grid], source


def _enough(best: Fit, wanted: float, efficiency: float) -> str:
    """Whether the machine answers so many requests a second as planned."""
    planned = efficiency * best.requests_per_second
    if planned >= wanted:
        return f"requests: {wanted:g} a second asked, {planned:,.2f} planned: enough"
    replicas = ceil(wanted / planned * best.replicas)
    return (
        f"requests: {wanted:g} a second asked, {planned:,.2f} planned: take {counted(replicas, 'replica')}, "
        f"{counted(replicas * best.split.gpus, 'GPU')}"
    )
