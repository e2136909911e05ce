"""What the loop keeps of a response: its request while it waits and lives, its tokens when it has finished."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import numpy as np

from mull.engines.base import Request


@dataclass(frozen=True)
class Finished:
    """A row that has left: its request, its tokens int64 `[T]`, their logprobs float32 `[T]` and its seconds."""

    request: Request
    tokens: np.ndarray
    logprobs: np.ndarray
    stopped: bool
    """Whether its last token is an end-of-text token."""
    seconds: float


@dataclass
class LiveRow:
    """A live row."""

    request: Request
    started: float


class Lookahead:
    """Requests in order, with a look at whether there are more."""

    def __init__(self, items: Iterable[Request]) -> None:
        self._items = iter(items)
        self._ahead: deque[Request] = deque()

    def at_least(self, count: int) -> bool:
        """Whether `count` more requests are waiting; pulls no more than that."""
        self._ahead.extend(islice(self._items, max(0, count - len(self._ahead))))
        return len(self._ahead) >= count

    def __bool__(self) -> bool:
        return self.at_least(1)

    def first(self) -> Request:
        """The next one, which stays; there must be one."""
        return self._ahead[0]

    def pop(self) -> Request:
        """The next one, which is taken; there must be one."""
        return self._ahead.popleft()

    def put_back(self, request: Request) -> None:
        """`request` is the next one again."""
        self._ahead.appendleft(request)
