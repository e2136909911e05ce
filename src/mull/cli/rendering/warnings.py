"""Prints warnings on a pair that can be mixed."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from mull.checkpoints.findings import Finding


def print_warnings(warnings: list[Finding], stderr: Console) -> None:
    """Print one line per warning, with its remedy."""

    for warning in warnings:
        remedy = f" [dim]→ {escape(warning.remedy)}[/]" if warning.remedy else ""
        stderr.print(f"[yellow]warning[/] {escape(warning.what)}{remedy}", highlight=False, soft_wrap=True)
