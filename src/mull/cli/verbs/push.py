"""`mull push`: a measured λ as a checkpoint on the hub, with the run's figures on its card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mull.analysis.choosing.options import Goal
from mull.api.run import Run
from mull.cli.options.common import AllowOption, consoles
from mull.cli.rendering.warnings import print_warning
from mull.errors import MullError
from mull.merging.coefficients import parse_lambdas


def push(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.", metavar="RUN")],
    to: Annotated[str, typer.Option(help="Where to: {lambda} in it is its λ.", metavar="USER/NAME")],
    lam: Annotated[
        str | None, typer.Option("--lambda", help="One of the measured λ (default: chosen by the goal).", metavar="λ")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(help="Instead of --lambda: choose with this many tokens per response at most.")
    ] = None,
    min_accuracy: Annotated[
        float | None, typer.Option(help="Instead of --lambda: choose with this Mean@k, 0 to 1, at least.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder of the checkpoint (default: model-λ in the run's).", metavar="DIR"),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Create a private repository.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Make the checkpoint with its card, and print what would be sent.")
    ] = False,
    instruct: Annotated[
        str | None, typer.Option(help="Where Instruct lies now (default: where the run found it).", metavar="MODEL")
    ] = None,
    thinking: Annotated[
        str | None, typer.Option(help="Where Thinking lies now (default: where the run found it).", metavar="MODEL")
    ] = None,
    grading: Annotated[
        str | None, typer.Option(help="Figures by these later grades of `mull regrade`.", metavar="NAME")
    ] = None,
    allow: AllowOption = None,
) -> int:
    """Upload a measured λ to the hub, with what the run measured on its model card.

    Merges at λ (or takes the same merge from --out) and writes the card: accuracy, Pass@k, tokens and more as the
    hub's evaluation results, a table of all λ with 95 % intervals, how they were measured, and the commands to do it
    again. `hf auth login` first. After a failed upload the same command goes on.

    Examples:

    `mull push run --to me/Qwen3-4B-0.6 --lambda 0.6 --dry-run`

    `mull push run --to me/Qwen3-4B-{lambda} --budget 1500 --private`
    """
    stdout, stderr = consoles()
    opened = Run.open(run, grading=grading)
    if lam is not None and (budget is not None or min_accuracy is not None):
        raise MullError("--lambda says what a goal would choose", "give one of the two")
    if lam is not None:
        (chosen, *more) = parse_lambdas(lam, extrapolate=True)
        if more:
            raise MullError(f"--lambda {lam} names several λ", "push one after the other")
    else:
        if budget is None and min_accuracy is None:
            lams = ", ".join(m.setting for m in opened.results.metrics if m.lam is not None)
            raise MullError("no λ is named", f"give --lambda (measured: {lams}), or --budget to choose one")
        choice = opened.choose(Goal(budget=budget, min_accuracy=min_accuracy))
        said = stderr if choice.lam is not None else stdout
        said.print("\n".join([*choice.notes, *choice.headline]), highlight=False, markup=False, soft_wrap=True)
        if choice.lam is None:
            return 1
        chosen = choice.lam
    found = opened.push(
        to, chosen, out=out, private=private, dry_run=dry_run, instruct=instruct, thinking=thinking, allow=allow or (),
        quiet=stderr.quiet,
    )  # fmt: skip
    if found.license:
        print_warning(f"license: {found.license}", "state one in the card's header", stderr)
    if found.url is not None:
        stdout.print(f"pushed {found.url}", highlight=False, markup=False, soft_wrap=True)
        return 0
    lines = [f"to {found.repo}{' (private)' if private else ''} from {found.folder}:"]
    lines += [f"{size:>16,} bytes  {name}" for name, size in found.files.items()]
    lines += ["dry run: nothing was sent; the same command without --dry-run sends it"]
    stdout.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)
    return 0
