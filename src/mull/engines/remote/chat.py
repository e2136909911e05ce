"""One chat completion: the request and its retries.

Knows no λ and no order of requests.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Collection
from types import TracebackType
from typing import Any, Literal, Self

import httpx2

from mull.engines.base import Sampling
from mull.engines.remote.endpoints import Target
from mull.engines.remote.refusals import (
    ApiKey,
    ErrorReply,
    RequestRefused,
    TemporaryError,
    Unanswered,
    clipped,
    refuse,
)
from mull.engines.remote.replies import Reply, read_reply
from mull.engines.remote.transport import fetch, problem_of

LimitField = Literal["max_tokens", "max_completion_tokens"]
"""The name under which a server takes the limit of generated tokens."""
CONNECT_SECONDS = 15.0
LONGEST_WAIT = 60.0
"""Most seconds between two tries, unless the server asks for more."""
LONGEST_PAUSE = 3600.0
"""Most seconds to wait for a server's Retry-After."""


def request_body(
    target: Target,
    messages: list[dict[str, str]],
    sampling: Sampling,
    seed: int,
    omit: Collection[str] = (),
    *,
    stream: bool = False,
    limit_field: LimitField = "max_tokens",
) -> dict[str, Any]:
    """The JSON of a request. It contains all sampling parameters, because defaults differ between servers.

    `limit_field`: the name of the limit, which is left out like `max_tokens`.
    """
    parameters: dict[str, Any] = {
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k or -1,  # −1 means no limit for vLLM, SGLang and llama.cpp; 0 does not for all of them
        "seed": seed % 2**31,  # some servers only accept 32 bits
    }
    if sampling.thinking_budget is not None:
        parameters["thinking_token_budget"] = sampling.thinking_budget  # vLLM's name
    if stream:
        parameters["stream_options"] = {"include_usage": True}
    parameters = {name: value for name, value in parameters.items() if name not in omit}
    if "max_tokens" in parameters:
        parameters[limit_field] = parameters.pop("max_tokens")
    return {"model": target.model, "messages": messages, "stream": stream, **parameters, **target.body}


class ChatClient:
    """Sends requests, with retries after temporary errors. An async context manager, for one event loop."""

    def __init__(
        self,
        key: ApiKey,
        *,
        concurrency: int,
        retries: int,
        timeout: float,
        per_minute: float | None,
        backoff: float,
        through_proxies: bool = True,
    ) -> None:
        """`timeout` and `backoff` (the wait before the first retry) are in seconds; see `RemoteEngine`."""
        self._key, self._retries, self._backoff, self._timeout = key, retries, backoff, timeout
        self._spacing = 60 / per_minute if per_minute else 0.0
        self.http = httpx2.AsyncClient(
            headers=key.headers(),
            trust_env=through_proxies,
            timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS),  # `fetch` bounds the whole
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=concurrency),
        )
        self._turn_at: dict[str, float] = {}
        self._paused_until: dict[str, float] = {}
        self._random = random.Random()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.http.aclose()

    async def complete(self, target: Target, body: dict[str, Any]) -> Reply:
        """Raises `Unanswered` if all tries fail or the request is refused, `MullError` if no request can succeed."""
        why = ""
        for attempt in range(self._retries + 1):
            await self._turn(target.url)
            wait = min(LONGEST_WAIT, self._backoff * 2**attempt) * self._random.uniform(0.5, 1)
            try:
                return await self._once(target, body)
            except TemporaryError as error:
                why = str(error)
                if error.wait is not None:
                    self._pause(target.url, error.wait)
            if attempt < self._retries:
                await asyncio.sleep(wait)
        times = f" ({self._retries + 1} tries)" if self._retries else ""
        raise Unanswered(self._key.hide(f"{target.url}: {why}{times}"))

    async def _once(self, target: Target, body: dict[str, Any]) -> Reply:
        start = time.perf_counter()
        try:
            found = await self.post(target, body, self._timeout)
        except TimeoutError:
            raise TemporaryError(f"no whole answer within {self._timeout:g} seconds") from None
        except httpx2.TimeoutException as error:
            raise TemporaryError(f"no answer in time ({type(error).__name__})") from None
        except httpx2.RequestError as error:
            raise TemporaryError(_reason(error)) from None
        limit = body.get("max_tokens", body.get("max_completion_tokens"))
        try:
            return read_reply(found, time.perf_counter() - start, limit)
        except RequestRefused as error:
            raise RequestRefused(self._key.hide(f"{target.url}: {error}")) from None

    async def post(self, target: Target, body: dict[str, Any], seconds: float, models: Collection[str] = ()) -> Any:
        """The JSON that answers one try, whole within `seconds`, without an error object in it.

        `models`: those that the server lists. Raises what `fetch` and `refuse` raise.
        """
        try:
            answer = await fetch(self.http, "POST", f"{target.url}/chat/completions", body, seconds)
        except ErrorReply as error:
            refuse(error.problem, target, self._key, models)
        if problem := problem_of(answer):
            refuse(problem, target, self._key, models)
        if answer.data is None:
            raise TemporaryError(f"a reply that is no JSON ({clipped(answer.text, 60)})")
        return answer.data

    async def _turn(self, url: str) -> None:
        """Wait until the rate limit allows a request and a pause that the server asked for is over."""
        now = time.monotonic()
        turn = max(now, self._turn_at.get(url, 0.0))
        self._turn_at[url] = turn + self._spacing
        if turn > now:
            await asyncio.sleep(turn - now)
        while (left := self._paused_until.get(url, 0.0) - time.monotonic()) > 0:
            await asyncio.sleep(left + self._random.uniform(0, min(1.0, left)))  # not all at once

    def _pause(self, url: str, seconds: float) -> None:
        until = time.monotonic() + min(seconds, LONGEST_PAUSE)
        self._paused_until[url] = max(until, self._paused_until.get(url, 0.0))


def _reason(error: httpx2.RequestError) -> str:
    if isinstance(error, httpx2.ConnectError):
        return f"no server answers there ({error})"
    return f"the connection broke ({error or type(error).__name__})"
