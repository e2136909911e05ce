"""`Observer`: the interface by which a session reports its progress to a terminal, a notebook or a log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mull.analysis.choosing.race import Step
    from mull.analysis.records import Sample
    from mull.runs.plan import SweepPlan


class RaceWatch(NamedTuple):
    """The functions that a race calls."""

    step: Callable[[Step, int], object]
    """Called before the samples of a step, with the step and its number of missing samples."""
    sample: Callable[[Sample], object]
    """Called with each new sample after it is recorded."""


class Observer:
    """Receives the progress of a session. This class shows nothing; subclasses override what they show.

    An exception that a method raises ends the session: this is the way to stop it from outside.
    """

    def say(self, text: str) -> None:
        """Show one line to the user."""

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """Surrounds a piece of work that takes a while and has no countable steps; `what` names it."""
        yield

    @contextmanager
    def counting(self, what: str, total: int) -> Iterator[Callable[[int], object]]:
        """Surrounds a piece of work of `total` steps; yields a function to call with the number of newly done steps."""
        yield lambda count: None

    @contextmanager
    def copying(self, what: str, total: int) -> Iterator[Callable[[int], object]]:
        """The same for a piece of work of `total` bytes."""
        yield lambda nbytes: None

    @contextmanager
    def sweeping(self, plan: SweepPlan, on_record: list[Sample]) -> Iterator[Callable[[Sample], object]]:
        """Surrounds the sampling of a sweep; yields a function to call with each new sample after it is recorded."""
        yield lambda sample: None

    @contextmanager
    def racing(self) -> Iterator[RaceWatch]:
        """Surrounds a race."""
        yield RaceWatch(lambda step, missing: None, lambda sample: None)
