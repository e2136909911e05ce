"""`mull inspect`: can these two checkpoints be mixed, and how far apart are they?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from mull.api.progress.bars import byte_progress
from mull.checkpoints.findings import Finding
from mull.checkpoints.names import MODULE_KINDS, ModuleKind
from mull.checkpoints.pair import Pair
from mull.checkpoints.pair import Pair as PairClass
from mull.cli.options.common import AllowOption, Donor, DonorOption, JsonOption, consoles, refuse_unwritable
from mull.cli.rendering.plain import print_json
from mull.errors import MullError, Refused

if TYPE_CHECKING:
    from mull.geometry.relative_difference import RelativeDifference

_MARK = {"refuse": "[bold red]refused[/]", "warn": "[yellow]differs[/]", "same": "[green]agrees[/]"}


def inspect(
    ends: Annotated[
        list[str] | None,
        typer.Argument(help="Instruct and Thinking checkpoint: folders or hub ids.", metavar="INSTRUCT THINKING"),
    ] = None,
    instruct: Annotated[str | None, typer.Option(help="The Instruct checkpoint, by name.", metavar="MODEL")] = None,
    thinking: Annotated[str | None, typer.Option(help="The Thinking checkpoint, by name.", metavar="MODEL")] = None,
    base: Annotated[str | None, typer.Option(help="Pretrained checkpoint of the same model.", metavar="MODEL")] = None,
    donor: DonorOption = Donor.thinking,
    allow: AllowOption = None,
    sigma: Annotated[bool, typer.Option(help="Read the weights and compute their relative difference σ.")] = True,
    png: Annotated[Path | None, typer.Option(help="Write the σ heat map to this PNG file.", metavar="FILE")] = None,
    json: JsonOption = False,
) -> int:
    """Check that two checkpoints can be mixed, and measure how far apart they are.

    Exit code 0: they can be mixed; 1: they cannot; 2: wrong usage.

    Example: `mull inspect Qwen/Qwen3-4B-Instruct-2507 Qwen/Qwen3-4B-Thinking-2507 --png sigma.png`
    """

    if png and not sigma:
        raise MullError("--png draws σ, which --no-sigma leaves out", "drop one of the two")
    if png:
        refuse_unwritable("--png", png)
    named = [end for end in (instruct, thinking) if end is not None]
    both = [*(ends or ()), *named]
    if len(both) != 2 or len(named) == 1:
        raise MullError(
            f"two checkpoints are compared, got {len(both)}",
            "give INSTRUCT THINKING, or --instruct A --thinking B",
        )
    stdout, stderr = consoles()
    try:
        pair = Pair.open(both[0], both[1], base, donor=donor.value)
        findings = pair.findings(allow or ())
    except Refused as error:
        if json:
            print_json({"mixable": False, "findings": [_refusal(error)], "sigma": None})
        else:
            consoles(errors=True)[1].print("[bold red]refused[/]", escape(str(error)), highlight=False, soft_wrap=True)
        return 1
    refused = any(finding.severity == "refuse" for finding in findings)
    measured = {} if refused or not sigma else _relative_differences(pair, stderr)
    broken = _not_finite(measured, allowed="non-finite" in (allow or ()))
    refused = refused or any(finding.severity == "refuse" for finding in broken)
    findings = [*broken, *findings]
    if png and measured:
        from mull.reports.figures.heatmap import write_heatmap

        write_heatmap(next(iter(measured.values())), png)
    if json:
        cells = {title: _cells(difference) for title, difference in measured.items()}
        print_json({"mixable": not refused, "findings": findings, "sigma": cells or None})
        return int(refused)
    _print_findings(pair, findings, stdout)
    for i, (title, difference) in enumerate(measured.items()):
        of_finite = ", of the finite elements" if any(difference.not_finite) else ""
        stdout.print(
            f"\nrelative difference σ({title}) = [bold]{difference.overall:.4f}[/]  (0 = equal weights{of_finite})",
            highlight=False,
        )
        if i == 0:
            _print_heatmap(difference, stdout)
    if png and measured:
        stdout.print(f"heat map: {png}", highlight=False, markup=False)
    stdout.print("\n[bold red]These two cannot be mixed.[/]" if refused else "\n[bold green]These two can be mixed.[/]")
    return int(refused)


def _relative_differences(pair: Pair, stderr: Console) -> dict[str, RelativeDifference]:
    from mull.geometry.relative_difference import relative_difference

    pairs = {"Instruct, Thinking": pair}
    if pair.base is not None:
        pairs["Base, Instruct"] = PairClass(pair.base, pair.instruct)
        pairs["Base, Thinking"] = PairClass(pair.base, pair.thinking)
    results = {}
    for title, each in pairs.items():
        total = sum(t.instruct.nbytes + t.thinking.nbytes for t in each.tensors)
        with byte_progress(f"σ({title})", total, stderr) as advance:
            results[title] = relative_difference(each, progress=advance)
    return results


def _not_finite(measured: dict[str, RelativeDifference], *, allowed: bool) -> list[Finding]:
    """One finding for each side that holds NaN or infinity, with its tensors."""
    counts: dict[str, dict[str, int]] = {}
    for title, difference in measured.items():  # a side may be in several comparisons
        counts |= {side: found for side, found in zip(title.split(", "), difference.not_finite, strict=True) if found}
    findings = []
    for side, found in counts.items():
        shown = ", ".join(f"{number:,} in {name}" for name, number in list(found.items())[:5])
        more = f" and in {len(found) - 5:,} more tensors" if len(found) > 5 else ""
        place = "the Base" if side == "Base" else f"the {side} side"
        what = f"{place} holds NaN or infinity: {shown}{more}"
        remedy = "download or save it again, or merge it as it is with --allow non-finite"
        findings.append(Finding("warn" if allowed else "refuse", "non-finite", what, remedy))
    return findings


def _print_findings(pair: Pair, findings: list, stdout: Console) -> None:

    table = Table(
        title=escape(f"{pair.instruct.name}  ×  {pair.thinking.name}"), title_justify="left", box=None, padding=(0, 1)
    )
    for column in ("", "", ""):
        table.add_column(column, overflow="fold")
    for finding in findings:
        text = escape(finding.what) + (f"\n[dim]→ {escape(finding.remedy)}[/]" if finding.remedy else "")
        table.add_row(_MARK[finding.severity], finding.code, text)
    stdout.print(table, highlight=False)


def _print_heatmap(difference: RelativeDifference, stdout: Console) -> None:
    """Print a table of layers × module kinds; cells are redder where the models differ more."""

    kinds: list[ModuleKind] = [kind for kind in MODULE_KINDS if any(kind == each for _, each in difference.cells)]
    top = max(difference.cells.values(), default=0) or 1
    table = Table(box=None, padding=(0, 0), show_header=True)
    table.add_column("layer ", justify="right")
    for kind in kinds:
        table.add_column(kind, justify="center", min_width=11)
    layers = sorted({layer for layer, _ in difference.cells}, key=lambda layer: (layer is None, layer or 0))
    for layer in layers:
        row: list[Text | str] = [f"{'–' if layer is None else layer} "]
        for kind in kinds:
            value = difference.cells.get((layer, kind))
            if value is None:
                row.append("")
                continue
            share = value / top
            red, other = 255, round(245 - 190 * share)
            row.append(Text(f"  {value:.4f}  ", style=f"black on rgb({red},{other},{max(40, other - 40)})"))
        table.add_row(*row)
    stdout.print(table)


def _cells(difference: RelativeDifference) -> dict[str, object]:
    cells = [{"layer": layer, "module": kind, "sigma": value} for (layer, kind), value in difference.cells.items()]
    return {"overall": difference.overall, "cells": cells}


def _refusal(error: Refused) -> dict[str, str]:
    return {"severity": "refuse", "code": "checkpoint", "what": error.what, "remedy": error.remedy}
