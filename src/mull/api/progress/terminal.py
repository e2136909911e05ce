"""Shows a session's progress: live tables and bars on a terminal, single lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from mull import interrupt
from mull.api.progress.bars import TimeLeft, byte_progress, item_progress
from mull.api.progress.live import LiveSweep
from mull.runs.sessions.observer import Observer, RaceWatch
from mull.words import clock, counted

if TYPE_CHECKING:
    from mull.analysis.choosing.race import Step
    from mull.analysis.records import Sample
    from mull.runs.plan import SweepPlan

REFRESH = 0.25
"""Seconds between two drawings of the live table."""


class Terminal(Observer):
    """Shows a session on a console."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        with self.console.status(what):
            yield

    @contextmanager
    def counting(self, what: str, total: int) -> Iterator[Callable[[int], object]]:
        with item_progress(what, total, self.console) as advance:
            yield advance

    @contextmanager
    def copying(self, what: str, total: int) -> Iterator[Callable[[int], object]]:
        with byte_progress(what, total, self.console) as advance:
            yield advance

    @contextmanager
    def sweeping(self, plan: SweepPlan, on_record: list[Sample]) -> Iterator[Callable[[Sample], object]]:
        """A live table on a terminal, else one line per finished setting; at the end the time it took."""
        sweep = LiveSweep(plan)
        sweep.resume(on_record)
        if self.console.is_terminal:
            with Live(sweep.table(), console=self.console, auto_refresh=False, transient=True) as live:
                shown = 0.0

                def on_sample(sample: Sample) -> None:
                    nonlocal shown
                    sweep.add(sample)
                    if time.perf_counter() - shown > REFRESH:
                        shown = time.perf_counter()
                        live.update(sweep.table(), refresh=True)

                yield on_sample
        else:

            def on_sample(sample: Sample) -> None:
                sweep.add(sample)
                line = sweep.line(sample.setting)
                if line:
                    self.say(line)

            yield on_sample
        self.say(f"{counted(sweep.new, 'response')} in {clock(sweep.seconds)}, {sweep.tokens_per_second:,.0f} tokens/s")

    @contextmanager
    def racing(self) -> Iterator[RaceWatch]:
        """One line per step; on a terminal also a bar over its responses with the time left."""
        bar = _Bar(self.console)

        def on_step(step: Step, missing: int) -> None:
            bar.stop()
            bar.title, bar.total = step.why, missing
            known = len(step.asks) - missing
            self.say(step.why + (f" ({known:,} on record)" if known else ""))

        try:
            yield RaceWatch(on_step, bar.sample)
        finally:
            bar.stop()


class _Bar:
    """A bar over the responses of one step. It appears with the first response; loading shows a status."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.title, self.total = "", 0
        self.progress: Progress | None = None
        self.task: TaskID | None = None

    def sample(self, sample: Sample) -> None:
        interrupt.check()
        if not self.console.is_terminal:
            return
        if self.progress is None:
            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("λ = {task.fields[setting]}"), TimeLeft())
            self.progress = Progress(*columns, console=self.console, transient=True)
            self.progress.start()
            self.task = self.progress.add_task(self.title, total=self.total, setting=sample.setting)
        assert self.task is not None
        self.progress.update(self.task, advance=1, setting=sample.setting)

    def stop(self) -> None:
        if self.progress is not None:
            self.progress.stop()
        self.progress = self.task = None
