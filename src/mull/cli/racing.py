"""A race on the command line: into its run folder, step by step, with the time left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from mull.analysis.choosing.options import Goal
    from mull.analysis.choosing.race import Outcome, Step
    from mull.analysis.records import Sample
    from mull.runs.plan import SweepPlan
    from mull.runs.run import Ready


def race_in(run: Path, plan: SweepPlan, goal: Goal, make_ready: Callable[[], Ready], stderr: Console) -> Outcome:
    """Run the race for `goal` in the folder `run`; `make_ready` is called if there is anything to sample.

    Raises:
        MullError: too few questions, or the folder holds another plan.
    """
    from mull.cli.recording import recording
    from mull.runs.race import run_race, start

    with stderr.status("drawing the questions"):
        racing = start(plan, goal)
    shown = _Shown(stderr)
    with recording(run, plan) as store:
        if store.count():
            stderr.print(f"{store.count():,} responses are on record", highlight=False)
        try:
            return run_race(plan, racing, store, make_ready, shown.step, shown.sample)
        finally:
            shown.stop()


class _Shown:
    """Says what each step of the race is for; on a terminal a bar over its responses, with the time left."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.title, self.total = "", 0
        self.progress: Progress | None = None
        self.task: TaskID | None = None

    def step(self, step: Step, missing: int) -> None:
        self.stop()
        self.title, self.total = step.why, missing
        known = len(step.asks) - missing
        self.console.print(step.why + (f" ({known:,} on record)" if known else ""), highlight=False, markup=False)

    def sample(self, sample: Sample) -> None:
        from mull.cli import interrupt

        interrupt.check()
        if not self.console.is_terminal:
            return
        if self.progress is None:  # not before: loading the weights shows a status of its own
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("λ = {task.fields[setting]}, ETA"))
            self.progress = Progress(*columns, TimeRemainingColumn(), console=self.console, transient=True)
            self.progress.start()
            self.task = self.progress.add_task(self.title, total=self.total, setting=sample.setting)
        assert self.task is not None
        self.progress.update(self.task, advance=1, setting=sample.setting)

    def stop(self) -> None:
        if self.progress is not None:
            self.progress.stop()
        self.progress = self.task = None
