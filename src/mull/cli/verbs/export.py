"""`mull export`: a run's tables as CSV, Parquet or LaTeX."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mull.cli.options.common import consoles
from mull.errors import MullError
from mull.folders import write_atomically
from mull.reports.export import SUFFIXES, encode, tables
from mull.runs.plan import benchmarks_of
from mull.runs.store import RunStore


class Form(StrEnum):
    """Formats of tables."""

    csv = "csv"
    parquet = "parquet"
    latex = "latex"


def export(
    run: Annotated[Path, typer.Argument(help="Run folder.", metavar="DIR")],
    forms: Annotated[
        list[Form] | None, typer.Option("--format", help="csv, parquet or latex; repeatable, all by default.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder of the tables (default: DIR/tables).", metavar="DIR")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="Setting to compare the others with (default: the highest λ).", metavar="SETTING"),
    ] = None,
) -> None:
    """Write every table of a run: metrics, further scores, by difficulty, cost, differences with intervals, stages.

    Examples:

    `mull export run`

    `mull export run --format latex --reference 0.8 -o paper/tables`
    """
    stdout, _ = consoles()
    with RunStore.open(run) as store:
        samples, benchmarks = store.samples(texts=False), benchmarks_of(store.plan)
    if not samples:
        raise MullError(f"the run in {run} holds no response yet", "start it with `mull sweep`, then export")
    folder = out or run / "tables"
    found = tables(samples, reference, benchmarks)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MullError(f"cannot make the folder {folder}: {error.strerror}", "choose another --out") from None
    for name, table in found.items():
        for form in forms or list(Form):
            path = folder / f"{name}{SUFFIXES[form.value]}"
            write_atomically(path, encode(table, form.value))
            stdout.print(str(path), highlight=False, soft_wrap=True, markup=False)
