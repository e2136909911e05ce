"""`mull merge`: write the checkpoint between the two ends."""

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
from mull.errors import MullError

if TYPE_CHECKING:
    from rich.console import Console

    from mull.checkpoints.findings import Finding
    from mull.merging.plan import MergePlan

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def merge(
    instruct: InstructOption,
    thinking: ThinkingOption,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write; must not exist yet.", metavar="DIR")],
    lam: Annotated[float, typer.Option("--lambda", help="λ: 0 = Instruct, 1 = Thinking.", metavar="λ")],
    layers: Annotated[
        str | None,
        typer.Option(help="λ in these layers only (both included), Instruct elsewhere.", metavar="FIRST-LAST"),
    ] = None,
    modules: Annotated[
        str | None,
        typer.Option(
            help="λ in these kinds only: attention, ffn, norm, embedding, lm_head; comma-separated.", metavar="KINDS"
        ),
    ] = None,
    donor: DonorOption = Donor.thinking,
    dtype: Annotated[str | None, typer.Option(help="bfloat16, float16 or float32; the donor's own by default.")] = None,
    shard_size: Annotated[
        str | None, typer.Option(help="Largest shard, as in 5GB; the donor's shards by default.", metavar="SIZE")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and print the plan; write nothing.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the output folder, with all its files, if it is a model.")
    ] = False,
    hash_inputs: Annotated[bool, typer.Option("--hash", help="Record the SHA-256 of the input files.")] = False,
    threads: Annotated[int, typer.Option(help="Threads that move data.", min=1, max=64)] = 2,
    allow: AllowOption = None,
    extrapolate: ExtrapolateOption = False,
) -> None:
    """Write the model Θ(λ) = λ·Thinking + (1−λ)·Instruct.

    Every element is rounded once; at λ = 0 and λ = 1 the weights are those of the ends byte for byte. A merge that was
    killed goes on where it was when the same command is given again.

    Examples:

    `mull merge --instruct A --thinking B --lambda 0.8 -o mixed`

    `mull merge --instruct A --thinking B --lambda 0.8 --layers 12-35 --modules ffn -o mixed --dry-run`
    """
    from mull.checkpoints.pair import Pair
    from mull.merging.coefficients import Coefficients, parse_layers
    from mull.merging.output import check_target
    from mull.merging.plan import plan_merge

    stdout, stderr = consoles()
    coefficients = Coefficients.only(
        lam,
        layers=parse_layers(layers) if layers is not None else None,
        modules=[kind.strip() for kind in modules.split(",")] if modules is not None else None,
        extrapolate=extrapolate,
    )
    pair = Pair.open(instruct, thinking, donor=donor.value)
    warnings = pair.check(allow or ())
    plan = plan_merge(
        pair, coefficients, dtype=dtype, shard_bytes=parse_size(shard_size) if shard_size is not None else None
    )
    print_warnings(warnings, stderr)
    _print_plan(plan, stdout)
    if dry_run:
        check_target(out, (pair.instruct, pair.thinking), overwrite=overwrite)
        plan.check_space(out)
        stdout.print("dry run: nothing was written")
        return
    # Only now is torch worth its import time.
    from mull.cli.progress import byte_progress
    from mull.merging.stream import merge as run_merge
    from mull.reports.cards import model_card

    with byte_progress(f"λ = {coefficients.label}", plan.nbytes, stderr) as advance:
        run_merge(
            plan,
            out,
            overwrite=overwrite,
            threads=threads,
            hash_inputs=hash_inputs,
            extra_files={"README.md": model_card(plan, out.name)},
            progress=advance,
        )
    stdout.print(f"wrote {out}", highlight=False, markup=False, soft_wrap=True)


def parse_size(text: str) -> int:
    """Bytes from "5GB", "500MB", "2GiB" or a plain number."""
    stripped = text.strip().upper().replace(" ", "")
    unit = next((u for u in sorted(_UNITS, key=len, reverse=True) if stripped.endswith(u)), "")
    try:
        size = int(float(stripped.removesuffix(unit)) * _UNITS.get(unit, 1))
    except (ValueError, OverflowError):
        size = 0
    if size < 1:
        raise MullError(f"cannot read the shard size {text!r}", "write a number with a unit, as in 5GB or 500MB")
    return size


def print_warnings(warnings: list[Finding], stderr: Console) -> None:
    """One line each, with the remedy."""
    from rich.markup import escape

    for warning in warnings:
        remedy = f" [dim]→ {escape(warning.remedy)}[/]" if warning.remedy else ""
        stderr.print(f"[yellow]warning[/] {escape(warning.what)}{remedy}", highlight=False, soft_wrap=True)


def _print_plan(plan: MergePlan, stdout: Console) -> None:
    from rich.markup import escape

    pair = plan.pair
    count = sum(len(shard.tensors) for shard in plan.shards)
    dtypes = ", ".join(sorted({tensor.dtype for shard in plan.shards for tensor in shard.tensors}))
    mixed = sum(tensor.lam not in (0, 1) for shard in plan.shards for tensor in shard.tensors)
    lines = (
        ("Instruct", pair.instruct.name),
        ("Thinking", pair.thinking.name),
        ("λ", plan.coefficients.label),
        ("donor", f"{pair.donor_side} (template, tokenizer, generation config, tensor layout)"),
        ("tensors", f"{count} in {len(plan.shards)} shard(s), {dtypes}; {mixed} mixed, {count - mixed} copied"),
        ("bytes", f"{plan.nbytes / 1e9:.3f} GB to write, {plan.read_bytes / 1e9:.3f} GB to read"),
    )
    for label, value in lines:
        stdout.print(f"[dim]{label:>9}[/]  {escape(value)}", highlight=False, soft_wrap=True)
