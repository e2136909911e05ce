"""Explains coefficients: which rule sets the coefficient of which parameters."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mull.merging.coefficients import Coefficients
from mull.merging.coefficients.explain import explain, shadowed
from mull.merging.coefficients.rules import shortest
from mull.merging.coefficients.selectors import format_rule


def print_explanation(
    coefficients: Coefficients, names: Iterable[str], stdout: Console, stderr: Console, *, symbol: str = "λ"
) -> None:
    """Print the coefficient (`symbol`) of all parameters and the rule that set it; warn of rules without effect.

    Raises:
        MullError: a rule reaches beyond the model or matches no parameter.
    """

    rows = explain(coefficients, names)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for head in (symbol, "decided by", "tensors", "layers", "kinds"):
        table.add_column(head, justify="right" if head == "tensors" else "left", overflow="fold")
    last: int | None = -1
    for row in rows:
        rule = "default" if row.rule is None else f"rule {row.rule + 1}: {format_rule(coefficients.rules[row.rule])}"
        where = [row.layers] if row.layers else []
        where += [f"{row.outside} outside" if row.layers else "outside"] if row.outside else []
        table.add_row(
            shortest(row.lam),
            "" if row.rule == last else escape(rule),  # name a rule only in its first row
            f"{row.tensors:,}",
            " + ".join(where),
            ", ".join(row.kinds),
        )
        last = row.rule
    stdout.print(table, highlight=False)
    for i in shadowed(coefficients, rows):
        rule = f"rule {i + 1} ({format_rule(coefficients.rules[i])})"
        what = f"{rule} decides nothing: later rules match all its parameters"
        stderr.print(
            f"[yellow]warning[/] {escape(what)} [dim]→ drop it, or write it below them[/]",
            highlight=False,
            soft_wrap=True,
        )
