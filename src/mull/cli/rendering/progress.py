"""Progress bars over bytes or items, with the time left; shown only on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from mull.cli import interrupt


@contextmanager
def byte_progress(title: str, total: int, console: Console) -> Iterator[Callable[[int], None]]:
    """A bar over `total` bytes; yields the function that advances it."""

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield _advancer(progress, title, total)


@contextmanager
def item_progress(title: str, total: int, console: Console) -> Iterator[Callable[[int], None]]:
    """A bar over `total` items; yields the function that advances it."""

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("ETA"))
    shown = console.is_terminal
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not shown) as progress:
        yield _advancer(progress, title, total)


def _advancer(progress: Progress, title: str, total: int) -> Callable[[int], None]:
    task = progress.add_task(title, total=total)

    def advance(count: int) -> None:
        interrupt.check()
        progress.advance(task, count)

    return advance
