"""One chat completion over HTTP: the request, its retries, and how the reply is parsed.

Knows no λ and no order of requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import time
from collections.abc import Collection
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import httpx2

from mull.engines.base import Sampling
from mull.engines.remote.endpoints import OMITTABLE, Target
from mull.errors import MullError, nearest
from mull.thinking import CLOSE, OPEN

RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
"""HTTP status codes of errors that may be temporary."""
CONNECT_SECONDS = 15.0
LONGEST_WAIT = 60.0
"""Most seconds between two tries, unless the server asks for more."""
LONGEST_PAUSE = 3600.0
"""Most seconds to wait for a server's Retry-After."""


class Unanswered(Exception):
    """One request got no usable reply, which says nothing about others. The text says why."""


class Reply(NamedTuple):
    """One response as a server gave it."""

    text: str
    tokens: int
    """Generated tokens by the server's count, thought included."""
    finish: Literal["stop", "length"]
    seconds: float
    """Wall-clock seconds of the try that succeeded."""
    prompt_tokens: int | None = None
    """Tokens of the prompt by the server's count, if it gives one."""
    thought_tokens: int | None = None
    """How many of `tokens` are reasoning, by the server's count, if it gives one."""


class ApiKey(NamedTuple):
    """An API key and the environment variable that it comes from."""

    variable: str
    value: str | None

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.value}"} if self.value else {}

    def __repr__(self) -> str:
        return f"ApiKey({self.variable!r})"  # never the value

    def hide(self, text: str) -> str:
        """`text` without the key, since some servers repeat it in error messages."""
        return text.replace(self.value, "…") if self.value else text


def request_body(
    target: Target, messages: list[dict[str, str]], sampling: Sampling, seed: int, omit: Collection[str] = ()
) -> dict[str, Any]:
    """The JSON of a request. It contains all sampling parameters, because defaults differ between servers."""
    parameters = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k or -1,  # −1 means no limit for vLLM, SGLang and llama.cpp; 0 does not for all of them
        "seed": seed % 2**31,  # some servers only accept 32 bits
    }
    parameters = {name: value for name, value in parameters.items() if name not in omit}
    body = {"model": target.model, "messages": messages, "max_tokens": sampling.max_tokens, "stream": False}
    return {**body, **parameters, **target.body}


def read_reply(reply: Any, seconds: float = 0.0) -> Reply:
    """The first choice in the JSON of a reply.

    Raises:
        Unanswered: there is no choice in it, or the server aborted the response.
        MullError: there is no token count, without which responses cannot be compared.
    """
    try:
        choice, usage = reply["choices"][0], reply.get("usage") or {}
        message, reason = choice["message"], choice.get("finish_reason")
        content = message.get("content") or ""
        reasoning = message.get("reasoning_content") or message.get("reasoning") or ""
    except (KeyError, IndexError, TypeError, AttributeError):
        raise Unanswered("a reply without a choice in it") from None
    if not isinstance(content, str) or not isinstance(reasoning, str):
        raise Unanswered("a reply whose content is no text")
    if reason in (None, "abort", "error"):
        raise Unanswered(f"the server broke the response off (finish reason {reason!r})")
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    if not isinstance(tokens, int):
        raise MullError("the server's replies hold no usage.completion_tokens", "turn its token counts on")
    finish = "length" if reason in ("length", "max_tokens") else "stop"
    if finish == "stop":
        reasoning, content = (_END.sub("", text) for text in (reasoning, content))
    details = usage.get("completion_tokens_details")
    thought = details.get("reasoning_tokens") if isinstance(details, dict) else None
    text = joined(reasoning, content, finish)
    return Reply(text, tokens, finish, seconds, _count(usage.get("prompt_tokens")), _count(thought))


def _count(value: object) -> int | None:
    """`value` if it is a number of tokens, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


_END = re.compile(r"(?:(?:<\|(?:im_end|endoftext|eot_id|end_of_text)\|>|<end_of_turn>|<｜end▁of▁sentence｜>)\s*)+\Z")
"""End-of-turn tokens, which some servers (transformers serve) leave in the text."""


def joined(reasoning: str, content: str, finish: str) -> str:
    """The response as the model wrote it, from a server that returns the thought separately.

    Such servers return all text before `</think>` as thought. So a finished response with thought but without answer
    had no `</think>`: it is a direct answer and gets no tags.
    """
    if not reasoning:
        return content
    if content.strip():
        return f"{OPEN}\n{reasoning.strip()}\n{CLOSE}\n\n{content.lstrip()}"
    return f"{OPEN}\n{reasoning.strip()}" if finish == "length" else reasoning


class ChatClient:
    """Sends requests, with retries after temporary errors. An async context manager, for one event loop."""

    def __init__(
        self, key: ApiKey, *, concurrency: int, retries: int, timeout: float, per_minute: float | None, backoff: float
    ) -> None:
        """`timeout` and `backoff` (the wait before the first retry) are in seconds; see `RemoteEngine`."""
        self._key, self._retries, self._backoff = key, retries, backoff
        self._spacing = 60 / per_minute if per_minute else 0.0
        self._http = httpx2.AsyncClient(
            headers=key.headers(),
            timeout=httpx2.Timeout(timeout, connect=CONNECT_SECONDS, pool=None),
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
        await self._http.aclose()

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
        raise Unanswered(f"{target.url}: {why}{times}")

    async def _once(self, target: Target, body: dict[str, Any]) -> Reply:
        start = time.perf_counter()
        try:
            response = await self._http.post(f"{target.url}/chat/completions", json=body)
            if not response.is_success:
                refuse(response, target, self._key)
            return read_reply(response.json(), time.perf_counter() - start)
        except RequestRefused:
            raise
        except Unanswered as error:
            raise TemporaryError(str(error)) from None
        except httpx2.TimeoutException as error:
            raise TemporaryError(f"no answer in time ({type(error).__name__})") from None
        except httpx2.RequestError as error:
            raise TemporaryError(_reason(error)) from None
        except ValueError:  # JSON's and Unicode's errors
            raise TemporaryError("a reply that is no JSON") from None

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


class TemporaryError(Exception):
    """This try failed, but another may succeed. `wait`: seconds that the server asks for, if it does."""

    def __init__(self, why: str, wait: float | None = None) -> None:
        super().__init__(why)
        self.wait = wait


class RequestRefused(Unanswered):
    """The server refuses this request; a retry would not help."""


def refuse(response: httpx2.Response, target: Target, key: ApiKey, models: Collection[str] = ()) -> None:
    """Raise the exception for a reply with an error code.

    `TemporaryError` if a retry may help; `MullError` if key, address or model are wrong, so that no request can
    succeed; else `RequestRefused`, for this request only.
    """
    code, message = response.status_code, key.hide(_error_message(response))
    if code in RETRIED:
        raise TemporaryError(f"HTTP {code}{message}", _retry_after(response.headers.get("retry-after")))
    if code in (401, 403):
        what = "refuses the key" if key.value else "asks for a key"
        remedy = f"put the right one into the environment variable {key.variable}"
        raise MullError(f"{target.url} {what} (HTTP {code}{message})", remedy)
    if code == 404 and "model" in message.lower():
        remedy = nearest(target.model, models) if models else "ask it for its models, GET /models"
        raise MullError(f"{target.url} has no model {target.model!r} (HTTP 404{message})", remedy)
    if code in (301, 302, 303, 307, 308, 404, 405):
        what = f"{target.url}/chat/completions does not exist (HTTP {code})"
        raise MullError(what, "give the base URL of the API, as in http://host:8000/v1")
    named = [name for name in OMITTABLE if re.search(rf"\b{name}\b", message)]
    hint = f" (--omit {' --omit '.join(named)} leaves it out)" if named else ""
    raise RequestRefused(f"{target.url} refuses a request (HTTP {code}{message}){hint}")


def _error_message(response: httpx2.Response) -> str:
    """`: message` from the body of an error reply, on one line; empty if there is none."""
    with contextlib.suppress(ValueError, AttributeError):
        found = response.json()
        found = found.get("error", found.get("detail", found.get("message", "")))
        found = found.get("message", found) if isinstance(found, dict) else found
        return f": {_clip(str(found))}" if found else ""
    text = "" if "html" in response.headers.get("content-type", "") else response.text
    return f": {_clip(text)}" if text.strip() else ""


def _clip(text: str, most: int = 200) -> str:
    text = " ".join(text.split()).rstrip(".")
    return text if len(text) <= most else text[:most] + "…"


def _reason(error: httpx2.RequestError) -> str:
    if isinstance(error, httpx2.ConnectError):
        return f"no server answers there ({error})"
    return f"the connection broke ({error or type(error).__name__})"


def _retry_after(text: str | None) -> float | None:
    """Seconds from a Retry-After header, which holds seconds or a date; None if it holds neither."""
    if not text:
        return None
    with contextlib.suppress(ValueError):
        seconds = float(text)
        return max(0.0, seconds) if seconds - seconds == 0 else None
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())
