"""Writes the pilot study: one HTML page and each of its tables as CSV."""

from __future__ import annotations

from pathlib import Path

from mull.errors import MullError
from mull.folders import write_atomically
from mull.reports.geometry.page import page
from mull.reports.geometry.tables import geometry_tables
from mull.reports.renderers import csv
from mull.runs.sessions.pilot import Pilot

PAGE = "geometry.html"


def write_geometry(pilot: Pilot, folder: Path) -> list[Path]:
    """Write the page and the tables into `folder` and return their paths, the page first.

    Each file is replaced as a whole; other files in the folder are left alone.

    Raises:
        MullError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MullError(f"cannot make the folder {folder}: {error.strerror}", "choose another folder") from None
    files = {f"{table.name}.csv": csv(table) for table in geometry_tables(pilot)}
    # The page last: where it stands, the rest is there.
    for name, data in {**files, PAGE: page(pilot).encode()}.items():
        write_atomically(folder / name, data)
    return [folder / name for name in (PAGE, *files)]
