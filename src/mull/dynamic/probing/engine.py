"""What an engine must offer to be measured and evaluated: a λ for each of its rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from mull.engines.base import Engine
from mull.engines.local.prompts import Prompts
from mull.engines.local.reading import Reading


class RowEngine(Engine, Protocol):
    """An engine whose requests name their λ: the local one, or vLLM's."""

    prompts: Prompts
    context: int
    """Most tokens of a prompt and its response."""

    def read(self, prompts: Sequence[Sequence[int]], lam: float, *, hidden: bool = True) -> Iterator[Reading]:
        """What Θ(λ) knows at the end of each prompt (token ids), in their order; `hidden`: whether its hidden states
        are wanted. Raises `MullError` for an empty prompt or one longer than the context."""
        ...
