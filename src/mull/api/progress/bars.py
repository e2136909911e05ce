"""Progress bars over bytes or items, with the time left where it is known; shown only on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
)
from rich.text import Text

from mull import interrupt
from mull.words import clock


class TimeLeft(ProgressColumn):
    """The time left, as far as it is known; at the end the time it took."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        if task.finished:
            return Text(clock(task.finished_time or 0))
        left = task.time_remaining
        return Text("" if left is None else f"ETA {clock(left)}")


class Speed(ProgressColumn):
    """Bytes per second, as far as they are known."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{decimal(int(speed))}/s")


@contextmanager
def byte_progress(title: str, total: int, console: Console) -> Iterator[Callable[[int], None]]:
    """A bar over `total` bytes; yields the function that advances it."""

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), Speed(), TimeLeft())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield _advancer(progress, title, total)


@contextmanager
def item_progress(title: str, total: int, console: Console) -> Iterator[Callable[[int], None]]:
    """A bar over `total` items; yields the function that advances it."""

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeLeft())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield _advancer(progress, title, total)


def _advancer(progress: Progress, title: str, total: int) -> Callable[[int], None]:
    task = progress.add_task(title, total=total)

    def advance(count: int) -> None:
        interrupt.check()
        progress.advance(task, count)

    return advance
