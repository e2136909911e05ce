"""`mull report`: what a run found, in the terminal and as a page with figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mull.cli.options.common import consoles

if TYPE_CHECKING:
    from rich.console import Console

    from mull.analysis.records import Sample
    from mull.runs.store import RunStore


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
        bool, typer.Option("--overlay/--no-overlay", help="Show the published Think #R of Qwen3-4B in the figure.")
    ] = True,
    grading: Annotated[
        str | None, typer.Option(help="Grades of `mull regrade` in place of the original ones.", metavar="NAME")
    ] = None,
    parquet: Annotated[
        Path | None, typer.Option(help="Also export all samples to this Parquet file.", metavar="FILE")
    ] = None,
) -> None:
    """Report a run, finished or not: table, stages, plain words; a page, its figures and the metrics as CSV.

    Example: `mull report my-run -k 4 --parquet samples.parquet`
    """
    from mull.reports.build import write_report
    from mull.runs.store import RunStore

    stdout, stderr = consoles()
    with RunStore.open(run, grading=grading) as store:
        samples = store.samples(texts=False)
        planned = len(store.plan["settings"]) * len(store.questions) * store.plan["k"]
        if samples:
            print_summary(samples, stdout, k)
            if len(samples) < planned:
                stdout.print(
                    f"\nincomplete: {len(samples):,} of {planned:,} responses", style="bold yellow", highlight=False
                )
        if parquet:
            _export(store, parquet)
        folder = out or run / (f"report-{grading}" if grading else "report")
        with stderr.status("drawing the report"):
            paths = write_report(store, folder, k=k, overlay=overlay)
    stdout.print()
    for path in [*paths, *([parquet] if parquet else [])]:
        stdout.print(str(path), highlight=False, soft_wrap=True, markup=False)


def print_summary(
    samples: Sequence[Sample], stdout: Console, k: int | None = None, reference: str | None = None
) -> None:
    """The table of all settings; of a study what differs from its `reference`, else stages and plain words."""
    from mull.analysis.frontier import non_dominated, points_of
    from mull.analysis.metrics import metrics
    from mull.analysis.stages import stages_of_samples
    from mull.analysis.summary import plain_words
    from mull.cli.rendering.scores import scores_table
    from mull.cli.rendering.tables import metrics_table, stages_text

    found = metrics(samples, k)
    stdout.print(metrics_table(found, non_dominated(points_of(found))), highlight=False)
    further = scores_table(samples)
    if further is not None:
        stdout.print()
        stdout.print(further, highlight=False)
    if reference is not None:
        from mull.analysis.paired import contrasts
        from mull.cli.rendering.tables import contrasts_table

        stdout.print()
        stdout.print(contrasts_table(contrasts(samples, reference), reference), highlight=False)
    elif sum(m.lam is not None for m in found) > 1:
        stages = stages_of_samples(samples)
        stdout.print(stages_text(stages), highlight=False, markup=False)
        stdout.print(f"\n{plain_words(found, stages, samples)}", highlight=False, markup=False)


def _export(store: RunStore, path: Path) -> None:
    from mull.errors import MullError
    from mull.runs.frames import write_parquet

    try:
        write_parquet(store, path)
    except OSError as error:
        raise MullError(f"cannot write {path}: {error.strerror or error}", "choose another file") from None
