"""The λ that `auto` gives under load: by how many responses are under way, and by a target of time.

`LoadPolicy` is what the server's owner asks for, `LoadControl` follows it by what it is told of the server's responses.
Knows no server and no clock. A λ that a client names never comes here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from mull.dynamic.base import clipped
from mull.errors import MullError
from mull.serving.levels import number
from mull.serving.load.expected import FIRST_TOKENS, TOKENS, Pace, TokenCurve

GRID = 0.01
"""λ are tried in steps of this."""


@dataclass(frozen=True, kw_only=True)
class LoadPolicy:
    """When λ is lowered. By default never."""

    queue_from: int | None = None
    """λ(q) is given up to so many responses under way; None: whatever their number."""
    queue_full: int | None = None
    """With so many λ is lowest, between both it falls linearly; None: as many as the server takes."""
    target: float | None = None
    """Seconds that a response should take on average, from its request to its last token."""
    lowest: float | None = None
    """λ is not lowered below this one; None: the λ of `reasoning_effort` low, where thinking begins."""

    def __post_init__(self) -> None:
        if self.queue_from is None and self.queue_full is not None:
            raise MullError("--queue-full says where lowering ends, not where it begins", "give --queue-from, too")
        if self.queue_from is not None and self.queue_from < 1:
            raise MullError(f"--queue-from must be 1 or more, got {self.queue_from}", "1 is a response alone")
        if self.queue_from is not None and self.queue_full is not None and self.queue_full <= self.queue_from:
            what = f"--queue-full must be above --queue-from, got {self.queue_full} and {self.queue_from}"
            raise MullError(what, "λ falls between the two")
        if self.target is not None and not 0 < self.target < math.inf:
            raise MullError(f"--target-latency must be a positive number of seconds, got {self.target:g}")
        if self.lowest is not None and not 0 <= self.lowest <= 1:
            raise MullError(f"--lowest-lambda {self.lowest:g} is no λ", "give a number from 0 to 1")
        if self.lowest is not None and not self.active:
            what = "--lowest-lambda changes nothing unless λ is lowered under load"
            raise MullError(what, "give --queue-from or --target-latency, too")

    @property
    def active(self) -> bool:
        return self.queue_from is not None or self.target is not None

    def within(self, waiting: int, seconds: float) -> LoadPolicy:
        """This policy for a server that takes `waiting` responses at a time and gives each `seconds`. Raises
        `MullError` where it would never be followed."""
        if self.target is not None and self.target > seconds:
            what = f"--target-latency {self.target:g} is above --timeout {seconds:g}, which ends a response before"
            raise MullError(what, "lower the target, or raise --timeout")
        if self.queue_from is None:
            return self
        full = waiting if self.queue_full is None else self.queue_full
        if self.queue_from >= waiting or full > waiting:
            name, given = ("--queue-full", full) if self.queue_from < waiting else ("--queue-from", self.queue_from)
            what = f"with {name} {given} λ would never be lowest: --waiting takes {waiting} responses at a time"
            raise MullError(what, f"lower {name}, or raise --waiting")
        return replace(self, queue_full=full)

    def share(self, load: int) -> float:
        """How far λ is lowered with `load` responses under way: 0 not at all, 1 to the lowest."""
        if self.queue_from is None or self.queue_full is None:
            return 0.0
        return min(1.0, max(0.0, (load - self.queue_from) / (self.queue_full - self.queue_from)))


class Lowered(NamedTuple):
    """A λ in place of a larger one."""

    lam: float
    reason: Literal["queue", "target"]
    why: str
    """In words, with the λ before."""


class LoadControl:
    """Follows a policy. `load` is always the number of responses under way, those of the request itself included."""

    def __init__(
        self, policy: LoadPolicy | None = None, *, low: float = 0.0, tokens: Mapping[float, float] | None = None
    ) -> None:
        """`policy`: one that is `within` the server's limits; None: nothing is lowered. `low`: where thinking begins.
        `tokens`: mean tokens by λ, if they were measured; otherwise they are learned from the server's responses."""
        self.policy = policy or LoadPolicy()
        self.lowest = clipped(low if self.policy.lowest is None else self.policy.lowest)
        self._may_skip = self.lowest <= clipped(low)
        self._measured, self.tokens = bool(tokens), TokenCurve(tokens)
        self.between_tokens, self.first_token = Pace(TOKENS), Pace(FIRST_TOKENS)

    def words(self) -> str:
        """What happens to the λ of auto, as a sentence without its full stop."""
        policy, said = self.policy, []
        if policy.queue_from is not None:
            said.append(f"between {policy.queue_from} and {policy.queue_full} responses under way")
        if policy.target is not None:
            curve = "measured before" if self._measured else "learned from the responses of this server"
            said.append(f"where a response is expected to take over {policy.target:g} s (tokens by λ {curve})")
        return f"the λ of auto falls {', and '.join(said)}; not below {number(self.lowest)}"

    def lowered(self, lam: float, load: int, *, spent: float = 0.0, most: int | None = None) -> Lowered | None:
        """What becomes of a λ; None: it stays. `spent`: seconds since the request came. `most`: its token limit."""
        if not self.policy.active or lam <= self.lowest:
            return None

        def seconds(at: float) -> float:
            return spent + self.seconds(at, load, most)

        queued = clipped(lam - self.policy.share(load) * (lam - self.lowest))
        if self._measured:  # few responses of one's own are no reason to keep λ large while many wait
            queued = self._cheapest(queued, lam)
        target = self.policy.target or math.inf
        held = next((each for each in _grid(self.lowest, queued) if seconds(each) <= target), None)
        if held is None:
            held = self._cheapest(self.lowest, queued)
        if held == lam:
            return None
        why = f"lowered from {number(lam)} to {number(held)}: {load} responses under way"
        if held == queued:
            return Lowered(held, "queue", why)
        why += f", expected {seconds(lam):.3g} s at {number(lam)} and {seconds(held):.3g} s at {number(held)}"
        return Lowered(held, "target", f"{why}, target {target:g} s")

    def unasked(self, load: int, *, most: int | None = None) -> Lowered | None:
        """The lowest λ, if every question would get it now, so that none need be probed; otherwise None.

        Only where the lowest λ is one without thinking: elsewhere a question may ask for less.
        """
        found = self.lowered(1.0, load, most=most) if self._may_skip else None
        if found is None or found.lam > self.lowest:
            return None
        return found._replace(why=f"{number(self.lowest)} for every question now: {load} responses under way")

    def seconds(self, lam: float, load: int, most: int | None = None) -> float:
        """Expected seconds of a response at λ, its wait included; 0 before anything was measured."""
        tokens = self.tokens.at(lam)
        if tokens is None:
            return 0.0
        if most is not None:
            tokens = min(tokens, most)
        return (self.first_token.at(load) or 0.0) + tokens * (self.between_tokens.at(load) or 0.0)

    def _cheapest(self, low: float, high: float) -> float:
        """The λ of these with the fewest expected tokens: a smaller one may take more."""
        return min(_grid(low, high), key=lambda each: self.tokens.at(each) or 0.0)


def _grid(low: float, high: float) -> Iterator[float]:
    """λ from `high`, which comes first and as it is, down to `low`."""
    yield high
    for step in range(math.ceil(high / GRID) - 1, math.floor(low / GRID), -1):
        yield clipped(step * GRID)
    if low < high:
        yield clipped(low)
