"""Prints warnings on a pair that can be mixed."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from mull.checkpoints.findings import Finding
from mull.words import listed

_DONORS = {
    "chat-template": "chat templates",
    "generation-config": "generation configs",
    "eos": "eos ids",
    "pad": "pad ids",
    "max-positions": "max positions",
}
"""What the donor settles, by the code of the finding: one line names all of it."""


def print_warnings(warnings: list[Finding], stderr: Console) -> None:
    """Print one line per warning, with its remedy, and one for all that the donor settles."""
    for warning in warnings:
        if warning.code not in _DONORS:
            print_warning(warning.what, warning.remedy, stderr)
    settled = [name for code, name in _DONORS.items() if code in {warning.code for warning in warnings}]
    if settled:
        print_warning(f"different {listed(settled)}", "the donor's are used; mull inspect shows both", stderr)


def print_warning(what: str, remedy: str, stderr: Console) -> None:
    """Print one line."""
    shown = f" [dim]→ {escape(remedy)}[/]" if remedy else ""
    stderr.print(f"[yellow]warning[/] {escape(what)}{shown}", highlight=False, soft_wrap=True)
