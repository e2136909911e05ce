"""`mull report`: the results of a run, in the terminal and as a page with figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mull.cli.options.common import JsonOption, consoles, refuse_unwritable
from mull.cli.rendering.plain import print_json
from mull.cli.rendering.summary import print_summary, summary
from mull.runs.plan import benchmarks_of
from mull.runs.store import RunStore
from mull.words import counted


def report(
    run: Annotated[Path, typer.Argument(help="Run folder, as given to `mull sweep --run`.", metavar="DIR")],
    k: Annotated[
        int | None, typer.Option("-k", help="The k of Pass@k (default: the samples per question).", metavar="K")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the report (default: DIR/report, or DIR/report-NAME with --grading).", metavar="DIR"
        ),
    ] = None,
    overlay: Annotated[
        bool,
        typer.Option("--overlay/--no-overlay", help="Show the values of Qwen3-4B published on the same benchmark."),
    ] = True,
    grading: Annotated[
        str | None,
        typer.Option(help="Use these grades of `mull regrade` instead of the original ones.", metavar="NAME"),
    ] = None,
    parquet: Annotated[
        Path | None, typer.Option(help="Also export all samples to this Parquet file.", metavar="FILE")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Report a run, finished or not: print table, stages and a summary in words; write a page, figures and a CSV file.

    Example: `mull report my-run -k 4 --parquet samples.parquet`
    """
    folder = out or run / (f"report-{grading}" if grading else "report")
    stdout, stderr = consoles()
    with RunStore.open(run, grading=grading) as store:
        refuse_unwritable("--out", folder)
        if parquet:
            refuse_unwritable("--parquet", parquet)
        samples = store.samples(texts=False)
        benchmarks = benchmarks_of(store.plan)
        planned = len(store.plan["settings"]) * len(store.questions) * store.plan["k"]
        if samples and not json:
            print_summary(samples, stdout, k, benchmarks=benchmarks)
            if len(samples) < planned:
                stdout.print(
                    f"\nincomplete: {len(samples):,} of {counted(planned, 'response')}",
                    style="bold yellow",
                    highlight=False,
                )
        if parquet:
            _export(store, parquet)
        with stderr.status("drawing the report"):
            from mull.reports.build import write_report  # imports polars and altair, which are slow to import

            paths = write_report(store, folder, k=k, overlay=overlay)
    paths = [*paths, *([parquet] if parquet else [])]
    if json:
        state = {"run": run, "responses": len(samples), "planned": planned}
        found = summary(samples, k) if samples else {}
        print_json({**state, **found, "files": paths})
        return
    stdout.print()
    for path in paths:
        stdout.print(str(path), highlight=False, soft_wrap=True, markup=False)


def _export(store: RunStore, path: Path) -> None:
    from mull.runs.frames import write_parquet

    write_parquet(store, path)
