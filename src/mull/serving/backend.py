"""What the routes need of an engine, and the engine of this process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from mull.benchmarks import AnswerForm
from mull.dynamic.base import Choice, Estimator
from mull.dynamic.probing.streams import measure_in
from mull.engines.base import Request, Sampling
from mull.engines.local.engine import LocalEngine
from mull.engines.local.streams import Ended, Streams, Token, Wanted

PromptIds = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request may ask for."""

    waiting: int = 256
    """Responses under way, the waiting ones included; more are refused with 429."""
    prompt_tokens: int | None = None
    """None: what the model's context holds."""
    max_tokens: int = 4096
    """Default of a request that gives no limit; the context may lower it."""
    body_bytes: int = 4 << 20
    seconds: float = 600.0
    """Of one request."""


class Backend(Protocol):
    """An engine behind the routes."""

    async def render(self, messages: list[dict[str, str]]) -> PromptIds: ...

    async def choose(self, prompt: PromptIds) -> Choice: ...

    def events(self, request: Request, wanted: Wanted) -> AsyncIterator[Token | Ended]: ...

    def opens_thought(self, prompt: PromptIds) -> bool: ...

    def encode(self, text: str) -> PromptIds: ...

    def decode(self, token: int) -> str: ...

    @property
    def context(self) -> int: ...

    @property
    def under_way(self) -> int: ...


class LocalBackend:
    """The engine of this process: one continuous batch, whose rows have a λ each."""

    def __init__(
        self,
        engine: LocalEngine,
        *,
        estimator: Estimator | None,
        form: AnswerForm,
        limits: Limits,
        sampling: Sampling,
        prefix_bytes: int | None = None,
    ) -> None:
        """`estimator` chooses λ for `auto`, with answers forced as `form` says. `sampling`: the defaults.
        `prefix_bytes`: see `Streams`."""
        self._engine, self._estimator, self._form = engine, estimator, form
        self.limits, self.sampling = limits, sampling
        self._streams = Streams(engine, most_waiting=limits.waiting, prefix_bytes=prefix_bytes)
        self._rendering = threading.Lock()
        """Templates are rendered in one process of their own, which takes one conversation at a time."""

    @property
    def context(self) -> int:
        return self._engine.context

    @property
    def under_way(self) -> int:
        return self._streams.count

    async def render(self, messages: list[dict[str, str]]) -> PromptIds:
        """Token ids of a conversation. Raises `MullError` where the template refuses it."""

        def work() -> PromptIds:
            with self._rendering:
                return self._engine.render(messages)

        return await asyncio.to_thread(work)

    async def choose(self, prompt: PromptIds) -> Choice:
        """λ(q) for a rendered conversation; its probes run in the same batch as all responses."""
        assert self._estimator is not None
        signals = await measure_in(self._streams, self._engine, prompt, self._estimator.needs, self._form)
        return self._estimator.choose(signals)

    def events(self, request: Request, wanted: Wanted) -> AsyncIterator[Token | Ended]:
        return self._streams.events(request, wanted)

    def opens_thought(self, prompt: PromptIds) -> bool:
        return self._engine.prompts.opened(prompt) is not None

    def encode(self, text: str) -> PromptIds:
        return self._engine.prompts.encode(text)

    def decode(self, token: int) -> str:
        return self._engine.prompts.tokenizer.decode([token], skip_special_tokens=False)

    def close(self) -> None:
        """Ends all responses under way."""
        self._streams.close()
