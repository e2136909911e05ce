"""Shows heads and evaluations of λ per query in the terminal."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table as Grid
from rich.text import Text

from mull.dynamic.evaluation import comparison
from mull.dynamic.evaluation.result import Result
from mull.dynamic.explain import Explained
from mull.dynamic.head import Head
from mull.reports.renderers import terminal
from mull.reports.routing.sensitivity import sensitivity_table, sensitivity_words
from mull.reports.routing.tables import conclusions, routes_table
from mull.reports.table import Cell, Column, Row, Table
from mull.words import counted


def print_result(result: Result, stdout: Console) -> None:
    """The comparison, the average first, and what it says."""
    for found in result.tables:
        stdout.print(terminal(routes_table(found)), highlight=False)
    for line in conclusions(result):
        stdout.print(line, highlight=False, markup=False)


def print_sensitivity(found: comparison.Table, stdout: Console) -> None:
    """The study of the constants of `conf`: a table for each estimator, the caption below the last."""
    shown = sensitivity_table(found)
    for section, rows in shown.sections:
        caption = shown.caption if rows[-1] is shown.rows[-1] else ""
        stdout.print(terminal(replace(shown, head=section, caption=caption, rows=rows)), highlight=False)
    for line in sensitivity_words(found):
        stdout.print(line, highlight=False, markup=False)


def print_head(head: Head, stdout: Console) -> None:
    """How the head did on the questions that were held out."""
    report = head.report
    for line in head_words(report):
        stdout.print(line, highlight=False, markup=False)
    stdout.print(terminal(strata_table(report)), highlight=False)
    stdout.print(terminal(reliability_table(report)), highlight=False)


def head_words(report: Any) -> list[str]:
    """What a training report says, in sentences."""
    pref, router, length = report["pref"], report["router"], report["length"]
    lines = [
        f"trained on {report['questions'] - report['held_out']} questions with {report['samples']} samples at each of "
        f"{len(report['lams'])} λ; judged on {report['held_out']} others:",
    ]
    if pref["log_loss"] is not None:
        lines.append(
            f"pref: log loss {pref['log_loss']:.3f} a preference, chance {pref['log_loss_of_chance']:.3f}; calibration "
            f"error {_percent(pref['reliability']['error'])} (layer {pref['layer']})"
        )
    lines.append(
        f"router: Thinking is needed for {_percent(router['needed'])} of the questions; calibration error "
        f"{_percent(router['reliability']['error'])} (layer {router['layer']})"
    )
    rank = "not defined" if length["spearman"] is None else f"{length['spearman']:.2f}"
    lines.append(f"length: rank correlation of predicted and counted thinking tokens {rank} (layer {length['layer']})")
    lams = [row["lam"] for row in report["strata"]]
    if len(lams) > 1 and any(b < a - 1e-9 for a, b in itertools.pairwise(lams)):
        lines.append("warning: λ of pref does not rise with difficulty. More questions or samples may help.")
    return lines


def strata_table(report: Any) -> Table:
    """Mean λ of `pref` by stratum, the easiest first."""
    return Table(
        name="lambda-by-stratum",
        title="λ of pref by difficulty",
        caption="held-out questions; difficulty by the accuracy of Instruct",
        head="stratum",
        columns=[
            Column(key="questions", head="questions", decimals=0),
            Column(key="instruct", head="Instruct right", unit="%", scale=100),
            Column(key="lam", head="mean λ", decimals=2),
        ],
        rows=[
            Row(row["stratum"] or "(all)", [Cell(row["questions"]), Cell(row["instruct_accuracy"]), Cell(row["lam"])])
            for row in report["strata"]
        ],
    )


def reliability_table(report: Any) -> Table:
    """Predicted and observed frequencies of pref's preferences and of the router's need."""
    rows = []
    for part, what in (("pref", "preferences of pref"), ("router", "Thinking is needed, by router")):
        for predicted, observed, count in report[part]["reliability"]["bins"]:
            rows.append(Row(f"{100 * predicted:.0f} %", [Cell(predicted), Cell(observed), Cell(count)], what))
    return Table(
        name="reliability",
        title="Reliability",
        caption="predicted probability and how often it happened, on held-out questions",
        head="predicted",
        columns=[
            Column(key="mean", head="mean", unit="%", scale=100),
            Column(key="observed", head="happened", unit="%", scale=100),
            Column(key="count", head="cases", decimals=0),
        ],
        rows=rows,
    )


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def print_answers(found: Explained, stdout: Console) -> None:
    """The choice, then the responses side by side, one below the other where the terminal is narrow."""
    cost = found.choice.cost
    stdout.print(f"λ(q) = {found.choice.lam:g} by {found.estimator}", style="bold", highlight=False)
    stdout.print(f"{found.choice.why}.", highlight=False, markup=False)
    stdout.print(
        f"choosing took {counted(cost.generated, 'generated token')} and {counted(cost.prefilled, 'prompt token')}",
        highlight=False,
    )
    boxes = []
    for each in found.answers:
        chosen = " (chosen)" if each.lam == found.choice.lam else ""
        title = f"λ = {each.lam:g}{chosen} · {counted(each.tokens, 'token')}, {each.thought_tokens:,} of thought"
        text = Text(each.thought, style="dim")
        if each.thought:
            text.append("\n\n")
        text.append(Text(each.answer or "(no answer)", style="not dim" if each.answer else "italic dim"))
        if each.finish == "length":
            text.append("\n(cut off)", style="italic")
        boxes.append(Panel(text, title=Text(title), title_align="left"))
    if stdout.width >= 110:
        grid = Grid.grid(expand=True)
        for _ in boxes:
            grid.add_column(ratio=1)
        grid.add_row(*boxes)
        stdout.print(grid)
        return
    for box in boxes:
        stdout.print(box)
