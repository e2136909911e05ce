"""`mull methods`: the ways to merge, with their parameters."""

from __future__ import annotations

from mull.cli.options.common import consoles


def methods() -> None:
    """List the methods of `mull merge`, their parameters with defaults, and the presets.

    Examples:

    `mull methods`
    """
    from rich import box
    from rich.table import Table

    from mull.merging.coefficients.presets import PRESETS
    from mull.merging.methods import METHODS

    stdout, _ = consoles()
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for head in ("method", "models", "base", "coefficient", "parameters (--param)", "source"):
        table.add_column(head, overflow="fold")
    for name, kind in METHODS.items():
        sign = {"lambda": "λ", "alpha": "α", None: ""}[kind.coefficient]
        default = f" = {kind.default:g}" if sign and kind.default is not None else ""
        models = "2" if kind.most == 2 else "2 or more"
        base = "" if kind.base == "never" else kind.base
        table.add_row(name, models, base, sign + default, kind.parameters(), kind.paper)
    stdout.print(table, highlight=False)
    stdout.print()
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for head in ("preset", "method", "α", "note"):
        table.add_column(head, overflow="fold")
    for name, preset in PRESETS.items():
        table.add_row(name, str(preset.method), f"{preset.coefficient:g}", preset.note)
    stdout.print(table, highlight=False)
