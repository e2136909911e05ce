"""What is odd about a pair and allowed all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from mull.checkpoints.findings import Finding


def print_warnings(warnings: list[Finding], stderr: Console) -> None:
    """One line each, with the remedy."""
    from rich.markup import escape

    for warning in warnings:
        remedy = f" [dim]→ {escape(warning.remedy)}[/]" if warning.remedy else ""
        stderr.print(f"[yellow]warning[/] {escape(warning.what)}{remedy}", highlight=False, soft_wrap=True)
