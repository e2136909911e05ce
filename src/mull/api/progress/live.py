"""The live table of a sweep: for each setting the finished responses, means and speed; and the time left."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from mull import interrupt
from mull.words import clock, counted

if TYPE_CHECKING:
    from mull.analysis.records import Sample
    from mull.runs.plan import SweepPlan

EARLY = 16
"""No time left is shown before this many responses: the time until then was also spent on unfinished ones."""
PROVISIONAL = "*"
"""Marks the means of a λ that is not finished."""


@dataclass
class _Running:
    """Sums over the samples of one setting."""

    done: int = 0
    tokens: int = 0
    new_tokens: int = 0
    started: float = 0.0
    last: float = 0.0
    sums: dict[str, list[int]] = field(default_factory=dict)
    """Benchmark → responses, right ones, ones that think, tokens."""

    @property
    def mean_tokens(self) -> float:
        return self.tokens / self.done if self.done else 0.0

    @property
    def means(self) -> tuple[str, str, str]:
        """Mean, Think #R and Token #N of the responses so far, averaged over the benchmarks."""
        each = [[total / sums[0] for total in sums[1:]] for sums in self.sums.values()]
        correct, closed, tokens = (sum(column) / len(each) for column in zip(*each, strict=True))
        return f"{correct:.1%}", f"{closed:.1%}", f"{tokens:,.0f}"

    def add(self, sample: Sample) -> None:
        self.done += 1
        self.tokens += sample.tokens
        sums = self.sums.setdefault(sample.benchmark, [0, 0, 0, 0])
        for i, more in enumerate((1, sample.correct, sample.thinking == "closed", sample.tokens)):
            sums[i] += more


@dataclass
class LiveSweep:
    """Counts the samples of a sweep; `table()` shows the progress."""

    plan: SweepPlan
    settings: dict[str, _Running] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)
    new: int = 0

    def __post_init__(self) -> None:
        self.settings = {setting.label: _Running() for setting in self.plan.settings}

    def resume(self, samples: list[Sample]) -> None:
        """Count the samples that earlier sessions recorded."""
        for sample in samples:
            self.settings[sample.setting].add(sample)

    def add(self, sample: Sample) -> None:
        interrupt.check()
        running, now = self.settings[sample.setting], time.perf_counter()
        if not running.new_tokens:
            running.started = now - sample.seconds
        running.add(sample)
        running.new_tokens += sample.tokens
        running.last = now
        self.new += 1

    @property
    def done(self) -> int:
        return sum(running.done for running in self.settings.values())

    @property
    def seconds_left(self) -> float | None:
        """Time per token so far × expected tokens to come; None before the first response."""
        new = sum(running.new_tokens for running in self.settings.values())
        return self.seconds / new * self._tokens_left() if new else None

    @property
    def eta(self) -> str:
        """The time left as text, empty where nothing is left or it is not known yet. A lower bound while some λ has no
        response yet, because answers get longer with λ."""
        left = self.seconds_left
        if left is None or self.new < EARLY or self.done >= self.plan.total:
            return ""
        begun = all(running.done for running in self.settings.values())
        return f"ETA {'about' if begun else '≥'} {clock(left)}"

    def _tokens_left(self) -> float:
        """Expected tokens to come. An unfinished λ takes the mean of the λ before it, or its own mean if larger."""
        left = expected = 0.0
        for running in self.settings.values():
            missing = self.plan.per_setting - running.done
            expected = max(expected, running.mean_tokens) if missing else running.mean_tokens
            left += missing * expected
        return left

    def line(self, label: str) -> str:
        """One line on a setting if its last response has just been added, else empty."""
        running = self.settings[label]
        n = running.done
        if n != self.plan.per_setting:
            return ""
        mean, closed, tokens = running.means
        means = f"Mean {mean}, Think #R {closed}, Token #N {tokens}"
        name = f"λ = {label}" if label.replace(".", "").isdecimal() else label
        state = ", ".join(filter(None, (f"{self.done}/{self.plan.total}", self.eta)))
        return f"{name}: {counted(n, 'response')}, {means}; {state}"

    def table(self) -> Table:
        eta = self.eta if self.done < self.plan.total else clock(self.seconds)
        table = Table(
            title=f"{self.done}/{counted(self.plan.total, 'response')}   {eta}", title_justify="left", box=None
        )
        for column in ("λ", "done", "Mean", "Think #R", "Token #N", "tokens/s"):
            table.add_column(column, justify="right")
        for label, running in self.settings.items():
            n, span = running.done, running.last - running.started
            whole = n == self.plan.per_setting
            cells = [escape(label) + (PROVISIONAL if n and not whole else ""), f"{n}/{self.plan.per_setting}"]
            if n:
                speed = f"{running.new_tokens / span:,.0f}" if span > 0 and running.new_tokens else ""
                cells += [*running.means, speed]
            table.add_row(*cells, style="" if whole else "dim")
        if any(0 < running.done < self.plan.per_setting for running in self.settings.values()):
            table.caption, table.caption_justify = f"{PROVISIONAL} unfinished λ: short answers come first", "left"
        return table

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started

    @property
    def tokens_per_second(self) -> float:
        """Tokens per second of this session, the time of weight switches and grading included."""
        return sum(running.new_tokens for running in self.settings.values()) / max(self.seconds, 1e-9)
