"""What is odd about a pair and allowed all the same."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from mull.checkpoints.findings import Finding


def print_warnings(warnings: list[Finding], stderr: Console) -> None:
    """One line each, with the remedy."""

    for warning in warnings:
        remedy = f" [dim]→ {escape(warning.remedy)}[/]" if warning.remedy else ""
        stderr.print(f"[yellow]warning[/] {escape(warning.what)}{remedy}", highlight=False, soft_wrap=True)
