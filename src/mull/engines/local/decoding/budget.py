"""A thinking budget at work: counts the thought of one row token by token, and closes it when the budget is spent."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ThoughtBudget:
    """A hard limit on a thought: after `tokens` of it the closing tag is put in place of the model's next tokens."""

    tokens: int
    """Tokens of thought, tags not counted."""
    close_ids: tuple[int, ...]
    """Token ids of the closing tag."""
    message_ids: tuple[int, ...] = ()
    """Token ids of a sentence that is put before it. They are part of the thought, but not counted."""
    open_ids: tuple[int, ...] = ()
    """Token ids of the opening tag, where the model writes it."""
    opened: bool = False
    """Whether the prompt ends inside a thought."""

    def __post_init__(self) -> None:
        if self.tokens < 0:
            raise ValueError(f"a thinking budget must be 0 or positive, got {self.tokens}")
        if not self.close_ids:
            raise ValueError("a thinking budget needs a closing tag")


class RowBudget:
    """The state of one row. Ask for `forced` before each token, and `push` the token that came."""

    def __init__(self, budget: ThoughtBudget) -> None:
        self._budget = budget
        self._inside = budget.opened
        self._count = 0
        self._recent: tuple[int, ...] = ()
        """The last tokens, as many as the longer tag has."""
        self._pending: deque[int] = deque()
        self.used = False
        """Whether the thought was closed by force."""
        self._close_if_spent()

    @property
    def forced(self) -> int | None:
        """The token that must come next, or None."""
        return self._pending[0] if self._pending else None

    def push(self, token: int) -> None:
        """Take in the row's next token."""
        if self._pending:
            self._pending.popleft()
            self._inside = bool(self._pending)
            self._recent = ()
            return
        longest = max(len(self._budget.open_ids), len(self._budget.close_ids))
        self._recent = (*self._recent, token)[-longest:]
        if not self._inside:
            self._inside = self._ends_with(self._budget.open_ids)
            self._close_if_spent()
        elif self._ends_with(self._budget.close_ids):
            self._inside = False
            self._count -= len(self._budget.close_ids) - 1  # the tag is no thought
        else:
            self._count += 1
            self._close_if_spent()

    def _close_if_spent(self) -> None:
        if not self._inside or self._count < self._budget.tokens:
            return
        close = self._budget.close_ids
        # If the model has begun the tag by itself, it is only completed: two beginnings would be text.
        begun = next((n for n in range(len(close) - 1, 0, -1) if self._ends_with(close[:n])), 0)
        self._pending = deque(close[begun:] if begun else self._budget.message_ids + close)
        self._count -= begun
        self.used = True

    def _ends_with(self, tag: tuple[int, ...]) -> bool:
        return bool(tag) and self._recent[-len(tag) :] == tag
