"""Writes a run's report: one HTML page, its figures as SVG and PNG, and the metrics as CSV."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from mull.errors import MullError, nearest
from mull.folders import write_atomically
from mull.reports.figures import charts
from mull.reports.figures.render import Figure, png, svg
from mull.reports.html.page import Overlays, page
from mull.reports.renderers import csv
from mull.reports.results import Results, results
from mull.reports.tables import metrics_table
from mull.runs.paper.published import published_sweep
from mull.runs.store import RunStore

FORMATS = ("html", "svg", "png")


def write_report(
    store: RunStore,
    folder: Path,
    *,
    k: int | None = None,
    formats: Collection[str] = FORMATS,
    overlay: bool = True,
) -> list[Path]:
    """Write the report of a run, finished or not, into `folder`, and return the paths, the page first.

    `k` is that of Pass@k (default: the samples per question). `overlay` adds the published values of Qwen3-4B
    on the same benchmark. Each file is replaced as a whole; other files in the folder are left alone.

    Raises:
        MullError: an unknown format, a run without responses, `k` above the samples per question, or a folder that
            cannot be written.
    """
    for name in formats:
        if name not in FORMATS:
            raise MullError(f"unknown report format {name!r}", nearest(name, FORMATS))
    found = results(store, k)
    each = found.parts or {found.benchmark: found}
    overlays = {name: published_sweep(name) for name in each} if overlay else {}
    written: list[Path] = []
    pictures = folder / "figures"
    try:
        (pictures if {"svg", "png"} & set(formats) else folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MullError(f"cannot make the folder {folder}: {error.strerror}", "choose another folder") from None

    def write(path: Path, data: bytes) -> None:
        write_atomically(path, data)
        written.append(path)

    for name, figure in _figures(found, overlays):
        if "svg" in formats:
            write(pictures / f"{name}.svg", svg(figure, opaque=True).encode())
        if "png" in formats:
            write(pictures / f"{name}.png", png(figure))
    write(folder / "metrics.csv", csv(found.table))
    for own in each.values():
        if own.strata:
            write(folder / f"{own.part}metrics-by-stratum.csv", csv(metrics_table(own.benchmark, own.strata, None)))
    if "html" in formats:
        # The page last: where it stands, the rest is there.
        write(folder / "report.html", page(found, overlays).encode())
        written.insert(0, written.pop())
    return written


def _figures(found: Results, overlays: Overlays) -> Iterable[tuple[str, Figure]]:
    if found.sweep:
        overlay = overlays.get(found.benchmark, ())
        yield f"{found.part}stages", charts.stages_figure(found.metrics, found.stages, overlay=overlay)
    yield f"{found.part}frontier", charts.frontier_figure(found.metrics, found.frontier)
    if found.sweep and found.strata:
        yield f"{found.part}strata", charts.strata_figure(found.strata, found.stages)
    for part in found.parts.values():
        yield from _figures(part, overlays)
