"""`Observer`: how a session tells a terminal, a notebook or a log what it does. Knows none of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from mull.analysis.choosing.race import Step
from mull.analysis.records import Sample
from mull.runs.plan import SweepPlan


class RaceWatch(NamedTuple):
    """What an observer of a race is told."""

    step: Callable[[Step, int], object]
    """Each step before its samples, and how many of them are missing."""
    sample: Callable[[Sample], object]
    """Each new sample after it is on record."""


class Observer:
    """Is told how a session goes. This one keeps silent; subclasses show what they like.

    What they raise ends the session: that is how one is stopped from outside.
    """

    def say(self, text: str) -> None:
        """A line worth reading."""

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """Something that takes a while and cannot be counted."""
        yield

    @contextmanager
    def counting(self, what: str, total: int) -> Iterator[Callable[[int], object]]:
        """Something that takes a while: what is yielded is told of every few of `total`."""
        yield lambda count: None

    @contextmanager
    def sweeping(self, plan: SweepPlan, on_record: list[Sample]) -> Iterator[Callable[[Sample], object]]:
        """The sampling of a sweep: what is yielded is told each new sample after it is on record."""
        yield lambda sample: None

    @contextmanager
    def racing(self) -> Iterator[RaceWatch]:
        """A race."""
        yield RaceWatch(lambda step, missing: None, lambda sample: None)
