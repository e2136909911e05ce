"""`mull regrade`: grades the stored responses of a run again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from mull.analysis.regrading import GradingChange, grading_changes
from mull.api.progress.bars import item_progress
from mull.cli.options.common import by_benchmark, consoles
from mull.cli.rendering.warnings import print_warning
from mull.reports.renderers import terminal
from mull.reports.table import Cell, Column, Row, Table
from mull.runs.plan import benchmarks_of
from mull.runs.regrade import regrade as grade_again
from mull.runs.store import RunStore
from mull.words import counted


def regrade(
    run: Annotated[Path, typer.Argument(help="Run folder, as given to `mull sweep --run`.", metavar="DIR")],
    grader: Annotated[
        str | None,
        typer.Option(
            help="Grader (see `mull benchmarks`; default: the run's own, in the version installed now), or "
            "FILE.py:FUNCTION, a function (answer, gold) → bool of your own, which is run. Of several benchmarks each "
            "has its own as NAME=GRADER.",
            metavar="NAME",
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="The benchmark's data file with other gold answers.", metavar="FILE")
    ] = None,
    show: Annotated[int, typer.Option(help="List at most this many of the responses whose grade changed.", min=0)] = 20,
) -> None:
    """Grade the stored responses of a run again and compare with the original grades; nothing is sampled.

    The run keeps both. `mull report DIR` uses the original grades, `mull report DIR --grading NAME` the new ones.

    Examples:

    `mull regrade run --grader math`

    `mull regrade run --grader mine.py:grade`
    """

    stdout, stderr = consoles()
    with RunStore.amend(run) as store, item_progress("grading", store.count(), stderr) as advance:
        several = len(benchmarks_of(store.plan)) > 1
        name = grade_again(store, by_benchmark("--grader", grader, str, several=several), data, advance)
    with RunStore.open(run) as store:
        first = store.samples(texts=False)
    with RunStore.open(run, grading=name) as store:
        second = store.samples(texts=False)
    changes = grading_changes(first, second)
    stdout.print(terminal(changes_table(changes)), highlight=False)
    _print_which(changes, show)
    right = sum(old.correct for old in first)
    lost = sum(change.became_wrong for change in changes)
    if 2 * lost > right:
        what = f"{lost:,} of {counted(right, 'right answer')} became wrong: the grader may not fit these questions"
        print_warning(what, f"without --grading, mull report {run} uses the original grades", stderr)
    stdout.print(f"\ngrading: {name}\nnext: mull report {run} --grading {name}", highlight=False, markup=False)


def changes_table(changes: Sequence[GradingChange]) -> Table:
    """One row per setting: how many grades changed, and Mean@k before and after."""
    rows = [
        Row(
            each.setting,
            [
                *map(Cell, (each.samples, each.became_right, each.became_wrong, each.answers)),
                *map(Cell.of, (each.before, each.after, each.difference)),
            ],
        )
        for each in changes
    ]
    counts = {"responses": "responses", "became_right": "became right", "became_wrong": "became wrong"}
    shares = ("before", "after", "difference")
    return Table(
        name="regrading",
        title="What regrading changed",
        caption="± one standard error, clustered by question; the difference is paired",
        head="λ" if all(change.lam is not None for change in changes) else "setting",
        columns=[
            *(Column(key=key, head=head, decimals=0) for key, head in {**counts, "answers": "other answer"}.items()),
            *(Column(key=name, head=name, unit="%", scale=100, by_error=True) for name in shares),
        ],
        rows=rows,
    )


def _print_which(changes: Sequence[GradingChange], most: int) -> None:
    stdout, _ = consoles()
    which = [(change.setting, old, new) for change in changes for old, new in change.which]
    if not which:
        stdout.print("\nno response became right or wrong", highlight=False)
        return
    lines = []
    for setting, old, new in which[:most]:
        where = f"{setting if old.lam is None else f'λ {setting}'}, {old.question}, sample {old.index}"
        became = "wrong → right" if new.correct else "right → wrong"
        lines.append(f"{where}: {_short(old.answer)} → {_short(new.answer)}, {became}")
    rest = f"… and {len(which) - most:,} more (--show)" if len(which) > most else ""
    stdout.print("\n" + "\n".join([*lines, *([rest] if rest else [])]), highlight=False, markup=False, soft_wrap=True)


def _short(answer: str) -> str:
    text = " ".join(answer.split())
    return repr(text if len(text) <= 40 else text[:39] + "…") if text else "no answer"
