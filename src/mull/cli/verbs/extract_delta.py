"""`mull extract-delta`: Thinking − Instruct as a LoRA adapter."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mull.api.progress.bars import byte_progress, item_progress
from mull.checkpoints.pair import Pair
from mull.cli.options.common import AllowOption, InstructOption, ThinkingOption, consoles
from mull.cli.rendering.warnings import print_warnings
from mull.errors import MullError
from mull.merging.coefficients import parse_lambdas, parse_layers
from mull.merging.streaming.output import check_target

if TYPE_CHECKING:
    from mull.geometry.divergence import Mean
    from mull.geometry.prompts import Messages
    from mull.merging.adapter.levels import Levels
    from mull.merging.adapter.lowrank import Fidelity, Loss, LowRankPlan

NAME = "mull"
"""Of levels, for clients; also the default of `mull serve`."""


def extract_delta(
    instruct: InstructOption,
    thinking: ThinkingOption,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write; must not exist yet.", metavar="DIR")],
    rank: Annotated[int, typer.Option(help="Rank of the factors; at most a matrix's smaller side.", metavar="N")] = 32,
    layers: Annotated[
        str | None, typer.Option(help="Factors in these layers only, as in 12-35 or 0-11,24-35.", metavar="LAYERS")
    ] = None,
    modules: Annotated[
        str | None,
        typer.Option(help="Factors in these kinds only: attention, ffn, lm_head; comma-separated.", metavar="KINDS"),
    ] = None,
    dtype: Annotated[str, typer.Option(help="Dtype of the stored factors: bfloat16, float16 or float32.")] = "bfloat16",
    exact: Annotated[
        bool, typer.Option("--exact", help="Full SVD of large matrices, too; takes minutes for each.")
    ] = False,
    save_rest: Annotated[
        bool,
        typer.Option(
            "--save-rest",
            help="Also store Thinking's norms and untied embeddings. Only PEFT reads them; λ does not scale them.",
        ),
    ] = False,
    levels: Annotated[
        str | None,
        typer.Option(
            help="Also write an adapter for each of these λ, and the command of a vLLM that serves them, as in "
            "0.2:1:0.2.",
            metavar="λ",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The levels' name for clients, name@λ (default: mull).", metavar="NAME")
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(help="Measure the KL of the logits on these: one prompt per line, or .jsonl.", metavar="FILE"),
    ] = None,
    lambdas: Annotated[
        str | None,
        typer.Option(
            "--lambda",
            help="Further λ at which to measure, besides 1 and --levels, as in 0.4,0.8 or 0:1:0.2.",
            metavar="λ",
        ),
    ] = None,
    positions: Annotated[
        int | None,
        typer.Option(
            help="Positions measured per prompt: its last token, then the tokens of Thinking's answer.",
            min=1,
            metavar="N",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the output folder, with all its files, if it is an adapter.")
    ] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that ships with the model, for --prompts.")
    ] = False,
    allow: AllowOption = None,
) -> None:
    """Write Δ = Thinking − Instruct as a LoRA adapter of low rank, for engines that serve adapters.

    The base model is Instruct. With scale 1 the adapter approximates Thinking, with scale λ it approximates Θ(λ). The
    approximation error is printed and recorded. The adapter has no norms, biases and embeddings. With --levels the
    folder also holds an adapter for each λ, which share one weights file, and `serve.sh`: vLLM without mull, which
    answers at λ as the model `name@λ`.

    Examples:

    `mull extract-delta --instruct A --thinking B --rank 32 -o adapter`

    `mull extract-delta --instruct A --thinking B --rank 64 --prompts prompts.txt --lambda 0.4,0.8 -o adapter`

    `mull extract-delta --instruct A --thinking B --rank 64 --levels 0.2:1:0.2 -o adapter && sh adapter/serve.sh`
    """

    if rank < 1:
        raise MullError(f"--rank must be at least 1, got {rank}", "32 is the default")
    if prompts is None and (lambdas is not None or positions is not None or trust_remote_code):
        raise MullError("--lambda, --positions and --trust-remote-code are for --prompts", "add it, or drop them")
    if levels is None and name is not None:
        raise MullError("--name is for --levels", "add them, or drop it")
    if levels is not None and save_rest:
        what = "--levels does not go with --save-rest: λ does not scale what is stored whole, and vLLM refuses it"
        raise MullError(what, "leave one of the two out")
    steps = [lam for lam in parse_lambdas(levels) if lam > 0] if levels is not None else []  # 0 is the base model
    lams = sorted({1.0, *steps, *(parse_lambdas(lambdas) if lambdas is not None else ())})
    span = parse_layers(layers) if layers is not None else None
    kinds = [kind.strip() for kind in modules.split(",")] if modules is not None else None
    stdout, stderr = consoles()
    pair = Pair.open(instruct, thinking, donor="instruct")
    print_warnings(pair.check(allow or ()), stderr)

    # Imported here because torch is slow to import and the checks above need none.
    from mull.merging.adapter.levels import SERVE, Levels, max_lora_rank, refused_head, serve_script, write_levels
    from mull.merging.adapter.lowrank import plan_low_rank
    from mull.merging.adapter.writing import CONFIG, extract
    from mull.reports.cards.adapter import adapter_card

    named = Levels.of(name or NAME, steps) if levels is not None else None
    if named:
        max_lora_rank(rank)  # before the work, not after it
    plan = plan_low_rank(pair, rank, layers=span, modules=kinds, dtype=dtype, exact=exact)
    check_target(out, (pair.instruct, pair.thinking), overwrite=overwrite, config=CONFIG)
    if named and (kind := refused_head(plan)):
        text = f"vLLM 0.32 refuses adapters of the output head for {kind!r} models: add --modules attention,ffn"
        stderr.print(f"[yellow]warning[/] {escape(text)}", highlight=False, soft_wrap=True)
    messages = _read_prompts(prompts) if prompts else None
    _print_plan(plan, stdout)
    with ExitStack() as bar:
        advance = bar.enter_context(byte_progress(f"rank {rank}", plan.read_bytes, stderr))

        def describe(folder: Path, fidelity: Fidelity, record: dict[str, Any]) -> dict[str, str]:
            bar.close()  # one bar at a time
            _print_loss(fidelity, stdout)
            if messages:
                kl = _measure(plan, folder, messages, lams, positions or 1, trust_remote_code, stderr)
                record["kl"] = kl
                _print_kl(kl, stdout)
            if named:
                write_levels(named, plan, folder)
                record["levels"] = named.to_json()
            return {"README.md": adapter_card(plan, fidelity, out.name, record.get("kl"), named)}

        extract(plan, out, save_rest=save_rest, overwrite=overwrite, describe=describe, progress=advance)
    stdout.print(f"wrote {out}", highlight=False, markup=False, soft_wrap=True)
    if named:
        _print_levels(named, serve_script(named, plan), out / SERVE, stdout)


def _read_prompts(path: Path) -> list[Messages]:
    from mull.geometry.prompts import read_prompts

    return read_prompts(path)


def _measure(
    plan: LowRankPlan,
    folder: Path,
    messages: list[Messages],
    lams: list[float],
    positions: int,
    trust_remote_code: bool,
    stderr: Console,
) -> dict[str, Any]:
    """The KL divergences in the form that mull.json records."""
    from mull.geometry.divergence import divergences, passes

    with item_progress("KL", passes(len(messages), len(lams)), stderr) as advance:
        found = divergences(
            plan.pair.instruct.folder,
            plan.pair.thinking.folder,
            folder,
            messages,
            lams,
            positions=positions,
            trust_remote_code=trust_remote_code,
            progress=advance,
        )
    rows = [{"lambda": row.lam, "instruct": _mean(row.instruct), "adapter": _mean(row.adapter)} for row in found]
    return {"prompts": len(messages), "positions": positions, "unit": "nats per token", "lambdas": rows}


def _mean(value: Mean) -> dict[str, float | None]:
    return {"mean": value.mean, "standard_error": value.error if value.error == value.error else None}


def _print_plan(plan: LowRankPlan, stdout: Console) -> None:

    methods = [factors.method for factors in plan.factors]
    svd = ", ".join(f"{methods.count(m)} {m}" for m in ("exact", "randomized") if m in methods)
    parameters = sum(factors.rank * sum(factors.shape) for factors in plan.factors)
    lines = (
        ("base model", plan.pair.instruct.name),
        ("Thinking", plan.pair.thinking.name),
        (
            "factors",
            f"{len(plan.factors)} matrices, rank {plan.rank}, {parameters / 1e6:.2f} M parameters, {plan.dtype}",
        ),
        ("SVD", svd),
    )
    for label, value in lines:
        stdout.print(f"[dim]{label:>10}[/]  {escape(value)}", highlight=False, soft_wrap=True)


def _print_loss(fidelity: Fidelity, stdout: Console) -> None:
    """Print a table of layers × module kinds, then the sums and the parts without factors."""

    from mull.reports.cards.adapter import rest_text

    cells, kinds = fidelity.cells(), fidelity.kinds()
    stdout.print("kept share Σσ²/‖Δ‖² and relative error ‖Δ − B·A‖/‖Δ‖:", highlight=False)
    table = Table(box=None, padding=(0, 1))
    table.add_column("layer", justify="right")
    for kind in kinds:
        table.add_column(kind, justify="right")
    for layer in dict.fromkeys(layer for layer, _ in cells):
        row = [_loss(cells.get((layer, kind))) for kind in kinds]
        table.add_row("–" if layer is None else str(layer), *row)
    table.add_row("all", *map(_loss, kinds.values()), style="bold")
    stdout.print(table, highlight=False)
    if not fidelity.total:
        stdout.print("[yellow]warning[/] the two checkpoints have the same weights: the adapter is empty")
        return
    represented = fidelity.represented
    share = represented.delta / fidelity.total
    text = f"factors cover {share:.1%} of ‖Δ‖² and keep {represented.kept_share:.1%} of that; "
    text += f"relative error {represented.relative_error:.3f}, over the whole model {fidelity.whole_model_error:.3f}"
    stdout.print(text, highlight=False, soft_wrap=True)
    if fidelity.rest:
        stdout.print(f"without factors, share of ‖Δ‖²: {rest_text(fidelity)}", highlight=False, soft_wrap=True)
    if fidelity.stored_whole:
        text = f"stored whole: {len(fidelity.stored_whole)} of these tensors, for PEFT alone and not scaled by λ"
        stdout.print(text, highlight=False, soft_wrap=True)


def _print_levels(levels: Levels, script: str, path: Path, stdout: Console) -> None:
    text = f"A vLLM without plugins answers as {', '.join([f'{levels.name}@0', *levels.names])}. {path}:\n\n{script}"
    stdout.print(text, highlight=False, markup=False, soft_wrap=True, end="")


def _print_kl(kl: dict[str, Any], stdout: Console) -> None:

    from mull.reports.cards.adapter import nats

    title = f"KL in nats per token, {kl['prompts']} prompts × up to {kl['positions']} positions, ± one standard error:"
    stdout.print(title, highlight=False, soft_wrap=True)
    table = Table(box=None, padding=(0, 1))
    for column in ("λ", "KL(Θ(λ) ‖ Instruct)", "KL(Θ(λ) ‖ Instruct + λ·adapter)"):
        table.add_column(column, justify="right")
    for row in kl["lambdas"]:
        table.add_row(f"{row['lambda']:g}", nats(row["instruct"]), nats(row["adapter"]))
    stdout.print(table, highlight=False)


def _loss(loss: Loss | None) -> str:
    if loss is None:
        return ""
    return f"{loss.kept_share:6.1%}  {loss.relative_error:.3f}" if loss.delta else "equal"
