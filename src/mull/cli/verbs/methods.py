"""`mull methods`: lists the merge methods with their parameters."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, cast

from rich import box
from rich.table import Table

from mull.cli.options.common import JsonOption, consoles
from mull.cli.rendering.plain import print_json
from mull.merging.coefficients.presets import PRESETS
from mull.merging.methods import METHODS


def methods(json: JsonOption = False) -> None:
    """List the methods of `mull merge`, what each does, their parameters with defaults, and the presets.

    Examples:

    `mull methods`

    `mull methods --json`
    """

    if json:
        print_json(_values())
        return
    stdout, _ = consoles()
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for head in ("method", "what it does", "models", "base", "coefficient", "parameters (--param)", "source"):
        table.add_column(head, overflow="fold")
    for name, kind in METHODS.items():
        sign = {"lambda": "λ", "alpha": "α", None: ""}[kind.coefficient]
        default = f" = {kind.default:g}" if sign and kind.default is not None else ""
        models = "2" if kind.max_models == 2 else "2 or more"
        base = "" if kind.base == "never" else kind.base
        table.add_row(name, kind.about, models, base, sign + default, kind.parameters(), kind.paper)
    stdout.print(table, highlight=False)
    stdout.print()
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for head in ("preset", "method", "α", "note"):
        table.add_column(head, overflow="fold")
    for name, preset in PRESETS.items():
        table.add_row(name, str(preset.method), f"{preset.coefficient:g}", preset.note)
    stdout.print(table, highlight=False)


def _values() -> dict[str, Any]:
    methods = {
        name: {
            "about": kind.about,
            "most_models": kind.max_models,
            "base": kind.base,
            "coefficient": kind.coefficient,
            "default": kind.default,
            "parameters": {field.name: field.default for field in fields(cast(Any, kind))},
            "source": kind.paper,
        }
        for name, kind in METHODS.items()
    }
    presets = {
        name: preset.method.to_json() | {"coefficient": preset.coefficient, "note": preset.note}
        for name, preset in PRESETS.items()
    }
    return {"methods": methods, "presets": presets}
