"""A response before, during and after decoding: the queue of requests, live rows, finished rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import numpy as np

from mull.engines.base import Request
from mull.engines.local.decoding.budget import RowBudget


@dataclass(frozen=True)
class Finished:
    """A finished row: its request, tokens int64 `[T]`, their logprobs float32 `[T]`, and wall-clock seconds."""

    request: Request
    tokens: np.ndarray
    logprobs: np.ndarray
    stopped: bool
    """Whether its last token is an end-of-text token."""
    seconds: float
    forced: bool = False
    """Whether a thinking budget closed its thought."""
    cached: int = 0
    """Tokens of its prompt whose keys and values were there already."""


@dataclass
class LiveRow:
    """A row that is being decoded, and when it began (`time.perf_counter`)."""

    request: Request
    started: float
    budget: RowBudget | None = None
    alternatives: int = 0
    """How many of the likeliest tokens are told at each step."""
    cached: int = 0
    """Tokens of its prompt whose keys and values were there already."""


class Lookahead:
    """A queue of requests from an iterator. It can tell how many there are without removing them."""

    def __init__(self, items: Iterable[Request]) -> None:
        self._items = iter(items)
        self._ahead: deque[Request] = deque()

    def at_least(self, count: int) -> bool:
        """Whether `count` more requests are waiting. Takes no more than that from the iterator."""
        self._ahead.extend(islice(self._items, max(0, count - len(self._ahead))))
        return len(self._ahead) >= count

    def __bool__(self) -> bool:
        return self.at_least(1)

    def first(self) -> Request:
        """The next request, not taken; there must be one."""
        return self._ahead[0]

    def pop(self) -> Request:
        """Take the next request; there must be one."""
        return self._ahead.popleft()

    def add(self, request: Request) -> None:
        """Append a request behind those that wait already."""
        self._ahead.append(request)

    def remove(self, request: Request) -> bool:
        """Take `request` out of those that were added or put back; False if it is not among them."""
        found = next((waiting for waiting in self._ahead if waiting is request), None)
        if found is None:
            return False
        self._ahead = deque(waiting for waiting in self._ahead if waiting is not request)
        return True

    def put_back(self, request: Request) -> None:
        """Make `request` the next one again."""
        self._ahead.appendleft(request)
