"""`mull paper`: the interpolation paper's figures and tables from the runs of its studies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mull.cli.options.common import consoles


def paper(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Folders of `mull sweep`, `compare`, `ablate` and `route eval`.", metavar="RUN..."),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the figures and tables.", metavar="DIR")] = Path(
        "paper"
    ),
    overlay: Annotated[
        bool,
        typer.Option("--overlay/--no-overlay", help="Show the values of Qwen3-4B published on the same benchmark."),
    ] = True,
    reference: Annotated[
        str | None,
        typer.Option(
            help="Setting to compare the others of sweeps and comparisons with (default: the highest λ).",
            metavar="SETTING",
        ),
    ] = None,
) -> None:
    """Make the figures and tables of Wu et al. 2025 (arXiv 2510.10977) from your own runs, on one page.

    The plan of each run says which study it is. Figures: dynamics over λ, accuracy over tokens, layers, modules,
    decoding (SVG, PDF). Tables: comparison, layers, modules, decoding, backbones, kinds of thinking and failures,
    significance, cost (LaTeX, CSV, Parquet, Markdown). An evaluation of λ per query gets a part of its own: accuracy
    over tokens of every policy, their table, and the λ that each estimator chose. Missing studies are listed with the
    commands that make them.

    Example: `mull paper aime25 ifeval compare layers modules decoding backbones route --out paper`
    """
    from mull.reports.paper.build import write_paper

    stdout, stderr = consoles()
    with stderr.status("drawing figures and tables"):
        made = write_paper(runs, out, overlay=overlay, reference=reference)
    kinds: dict[Path, list[str]] = {}
    for path in made.paths:
        kinds.setdefault(path.with_suffix(""), []).append(path.suffix[1:])
    for path, found in kinds.items():
        suffix = found[0] if len(found) == 1 else f"{{{','.join(found)}}}"
        stdout.print(f"{path}.{suffix}", highlight=False, soft_wrap=True, markup=False)
    for name in made.incomplete:
        stderr.print(f"warning: {name}", style="yellow", highlight=False, soft_wrap=True, markup=False)
    if made.missing:
        stderr.print("\nnot in these runs:", highlight=False)
    for each in made.missing:
        stderr.print(f"  {each.what}:\n    {each.command}", highlight=False, soft_wrap=True, markup=False)
