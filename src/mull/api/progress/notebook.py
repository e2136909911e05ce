"""Shows a session's progress in a notebook: one output per piece of work, which is replaced as the work goes on.

Needs IPython, which a notebook's kernel has, and no widgets.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any

from rich.filesize import decimal

from mull.api.progress.live import LiveSweep
from mull.api.showing import as_text
from mull.escaping import visible
from mull.runs.sessions.observer import Observer, RaceWatch
from mull.words import clock, counted

if TYPE_CHECKING:
    from mull.analysis.choosing.race import Step
    from mull.analysis.records import Sample
    from mull.runs.plan import SweepPlan

REFRESH = 0.5
"""Seconds between two drawings of an output."""


class Notebook(Observer):
    """Shows a session in the outputs of a cell."""

    def __init__(self) -> None:
        self._passing = Output()
        """Of all that is gone when it is done."""

    def say(self, text: str) -> None:
        Output().show(text)

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        self._passing.show(f"{what} …")
        yield
        self._passing.show("")

    @contextmanager
    def counting(self, what: str, total: int) -> Iterator[Callable[[int], object]]:
        with _bar(self._passing, what, total, lambda done: f"{done:,}/{total:,}") as advance:
            yield advance

    @contextmanager
    def copying(self, what: str, total: int) -> Iterator[Callable[[int], object]]:
        with _bar(self._passing, what, total, lambda done: f"{decimal(done)} of {decimal(total)}") as advance:
            yield advance

    @contextmanager
    def sweeping(self, plan: SweepPlan, on_record: list[Sample]) -> Iterator[Callable[[Sample], object]]:
        """A bar over the live table; the table stays if the work is stopped, else a line takes its place."""
        sweep, output = LiveSweep(plan), Output()
        sweep.resume(on_record)

        def draw() -> None:
            output.show(as_text(sweep.table()), sweep.done, plan.total)

        def on_sample(sample: Sample) -> None:
            sweep.add(sample)
            if output.due:
                draw()

        draw()
        try:
            yield on_sample
        except BaseException:
            draw()
            raise
        speed = f"{sweep.tokens_per_second:,.0f} tokens/s"
        output.show(f"{counted(sweep.new, 'response')} in {clock(sweep.seconds)}, {speed}")

    @contextmanager
    def racing(self) -> Iterator[RaceWatch]:
        """A line and a bar for each step."""
        output, step_now, done, total = Output(), "", 0, 0

        def on_step(step: Step, missing: int) -> None:
            nonlocal output, step_now, done, total
            if step_now:
                output.show(step_now)
                output = Output()
            step_now, done, total = step.why, 0, missing
            output.show(step_now, done, total)

        def on_sample(sample: Sample) -> None:
            nonlocal done
            done += 1
            if output.due:
                output.show(step_now, done, total)

        yield RaceWatch(on_step, on_sample)
        output.show(step_now)


class Output:
    """One output of a cell, whose content can be replaced."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._shown = 0.0

    @property
    def due(self) -> bool:
        """Whether enough time has passed to draw it again."""
        return time.perf_counter() - self._shown > REFRESH

    def show(self, text: str, done: int = 0, total: int = 0) -> None:
        """Show `text` in place of what was there, with a bar where there is a `total`."""
        self._shown = time.perf_counter()
        text = visible(text)
        bar = f'<progress value="{done}" max="{total}" style="width: 24em"></progress>' if total else ""
        page = f'{bar}<pre style="margin: 0; line-height: 1.3">{escape(text)}</pre>' if text else ""
        data = {"text/plain": text, "text/html": page}
        if self._handle is None:
            self._handle = import_module("IPython.display").display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)


@contextmanager
def _bar(output: Output, what: str, total: int, words: Callable[[int], str]) -> Iterator[Callable[[int], object]]:
    """A bar in `output` that is gone once the work is done. `words`: how far it is."""
    done, began = 0, time.perf_counter()

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if output.due:
            left = (time.perf_counter() - began) / done * (total - done) if done else 0
            output.show(f"{what}: {words(done)}{f', ETA {clock(left)}' if left >= 1 else ''}", done, total)

    output.show(f"{what}: {words(0)}", 0, total)
    yield advance
    output.show("")
