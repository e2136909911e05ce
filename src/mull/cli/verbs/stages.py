"""`mull stages`: the three stages of every benchmark in a table of results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mull.analysis.stages import Stages, stages_of_table
from mull.analysis.tables import read_table
from mull.cli.options.common import JsonOption, consoles
from mull.cli.rendering.plain import plain, print_json
from mull.reports.renderers import terminal
from mull.reports.table import Column, Row, Table


def stages(
    table: Annotated[Path, typer.Argument(help="CSV with the columns lambda, benchmark and think_ratio.")],
    json: JsonOption = False,
) -> None:
    """Find where Think #R rises along λ: stage 2, between Instruct-like and Thinking-like behaviour.

    Two ways: the rule on the grid (last λ with Think #R ≤ 5 % to first λ with ≥ 99 %) and a fitted logistic curve
    (its 5 and 95 % crossings). A benchmark without one such rise is reported as such, with the reason.

    Example: mull stages results.csv --json
    """
    rows = read_table(table)
    models = len({row.model for row in rows if row.lam is not None}) > 1
    strata = len({row.stratum for row in rows if row.lam is not None}) > 1
    groups: dict[str, list] = {}
    for row in rows:
        parts = [row.model] if models else []
        parts += [row.benchmark or table.stem, *([row.stratum] if strata and row.stratum else [])]
        groups.setdefault("/".join(parts), []).append(row)
    # A benchmark with rows of other methods only has no λ to speak of.
    found = {name: stages_of_table(rows) for name, rows in groups.items() if any(row.lam is not None for row in rows)}
    if json:
        print_json({name: _values(stages) for name, stages in found.items()})
    else:
        _print(found)


def _values(stages: Stages) -> dict[str, Any]:
    fit = stages.fit and {**plain(stages.fit), "width_at_most": stages.fit.width_at_most}
    return {"found": stages.found, "reason": stages.reason, "grid": stages.grid, "fit": fit}


def _print(found: dict[str, Stages]) -> None:
    rows = []
    for name, stages in found.items():
        fit = stages.fit
        if not stages.found:
            cells = ["no transition", "–", "–", "–", "–"]
        elif fit is None:
            cells = ["–", "–", "–", "–"]
        elif fit.identified:
            between = f"[{fit.crossing_5:.3f}, {fit.crossing_95:.3f}]"
            cells = [between, f"{fit.midpoint:.3f}", f"{fit.crossing_99:.3f}", f"{100 * fit.largest_residual:.1f}"]
        else:
            between = f"within [{fit.bracket[0]:g}, {fit.bracket[1]:g}]"
            cells = [between, f"{fit.midpoint:.3f}", "–", f"{100 * fit.largest_residual:.1f}"]
        if stages.found:
            cells.insert(0, f"[{stages.grid[0]:g}, {stages.grid[1]:g}]" if stages.grid else "–")
        rows.append(Row(name, cells))
    heads = ("grid rule", "fit, 5–95 %", "midpoint", "99 %", "residual")
    table = Table(
        name="stages",
        title="Stage 2 along λ",
        caption="stage 2 along λ; residual: largest |observed − fitted| Think #R, in points",
        head="benchmark",
        columns=[Column(key=head, head=head, decimals=None) for head in heads],
        rows=rows,
    )
    console, _ = consoles()
    console.print(terminal(table), highlight=False)
    for name, stages in found.items():
        prefix = f"{name}: " if stages.found else f"{name}: no transition found: "
        console.print(prefix + stages.reason, markup=False, highlight=False, soft_wrap=True)
