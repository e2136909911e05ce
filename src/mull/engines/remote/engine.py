"""Responses from servers that speak OpenAI's chat API, one model per λ. Implements `mull.engines.base.Engine`.

Knows neither weights nor tokens: the server applies its own chat template and counts. An event loop in a thread keeps
the requests under way while the caller grades and stores.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError
from itertools import islice
from queue import SimpleQueue
from typing import Any, Self

import httpx2

from mull.engines.base import Completion, Request
from mull.engines.remote.chat import (
    CONNECT_SECONDS,
    Again,
    ApiKey,
    ChatClient,
    RequestRefused,
    Unanswered,
    refuse,
    request_body,
)
from mull.engines.remote.endpoints import Endpoints, Target
from mull.errors import MullError
from mull.merging.coefficients import Coefficients
from mull.merging.coefficients.recipe import Recipe

KEY_VARIABLE = "MULL_API_KEY"
"""Not OPENAI_API_KEY: a key for one server is not sent to another one unasked."""
CHECK_SECONDS = 120.0
"""For a probe of one token; some servers load a model when it is first asked for."""


class RemoteEngine:
    """Asks the target of each λ.

    A response depends on what the server does with its seed; none promises the same text in another batch.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        *,
        concurrency: int = 16,
        retries: int = 6,
        timeout: float = 3600.0,
        per_minute: float | None = None,
        key_variable: str = KEY_VARIABLE,
        backoff: float = 1.0,
    ) -> None:
        """`concurrency`: requests under way at once. `retries`: repetitions of a request that failed for a passing
        reason, after `backoff` seconds and twice as long each time, with jitter. `timeout`: seconds to wait for one
        response. `per_minute`: most requests begun per minute and server. The API key is read from the environment
        variable `key_variable`, where it is set.
        """
        self._endpoints = endpoints
        self._concurrency = concurrency
        self._key = ApiKey(key_variable, _key(key_variable))
        self._options = {"retries": retries, "timeout": timeout, "per_minute": per_minute, "backoff": backoff}
        self._target: Target | None = None

    def set_weights(self, weights: Coefficients | Recipe) -> None:
        """Choose the target of a λ. Raises `MullError` where none is known, as for anything but a λ."""
        label = (weights.coefficients if isinstance(weights, Recipe) else weights).label
        if label not in self._endpoints.targets or (isinstance(weights, Recipe) and not weights.is_interpolation):
            raise MullError(f"no endpoint stands for {label}", "give it a URL and a model")
        self._target = self._endpoints.targets[label]

    def render(self, messages: list[dict[str, str]]) -> tuple[int, ...]:
        """The conversation as it will be sent, as the UTF-8 bytes of its JSON: token ids are the server's matter."""
        return tuple(json.dumps(messages, ensure_ascii=False).encode())

    def check(self, limit: int = 1) -> None:
        """Ask each server whether it is there, takes the key, has the models and room for `limit` tokens.

        A model that the server does not list is asked for one token. Raises `MullError` for what is wrong.
        """
        by_url: dict[str, list[Target]] = {}
        for target in self._endpoints.targets.values():
            by_url.setdefault(target.url, []).append(target)
        timeout = httpx2.Timeout(CHECK_SECONDS, connect=CONNECT_SECONDS)
        with httpx2.Client(headers=self._key.headers(), timeout=timeout) as http:
            for url, targets in by_url.items():
                try:
                    try:
                        self._check_server(http, url, targets, limit)
                    except (httpx2.ReadError, httpx2.RemoteProtocolError):  # some servers hang up after an error
                        self._check_server(http, url, targets, limit)
                except Again:
                    continue  # busy, not wrong
                except RequestRefused as error:
                    raise MullError(str(error), "mend that, then run the same command") from None
                except httpx2.ConnectError as error:
                    raise MullError(f"no server answers at {url} ({error})", "start it, or correct the URL") from None
                except httpx2.TimeoutException:
                    raise MullError(f"the server at {url} does not answer in time", "see whether it is up") from None
                except httpx2.RequestError as error:
                    raise MullError(f"{url} does not speak HTTP as expected ({error})", "correct the URL") from None

    def _check_server(self, http: httpx2.Client, url: str, targets: list[Target], limit: int) -> None:
        response = http.get(f"{url}/models")
        if response.status_code in (401, 403):
            refuse(response, targets[0], self._key)
        listed = _listed(response)
        for target in targets:
            if target.model in listed:
                _check_room(target, listed[target.model], limit)
                continue
            probe = {"model": target.model, "messages": [{"role": "user", "content": "1"}], "max_tokens": 1}
            response = http.post(f"{url}/chat/completions", json={**probe, **target.body})
            if not response.is_success:
                refuse(response, target, self._key, listed)

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Completions in the order in which they finish; requests are taken as places become free.

        A request that fails for good does not stop the others; when a whole round of them has failed in a row, no more
        are sent. Either way `MullError` tells of it at the end. It is raised at once for a wrong key or model. A
        dropped or interrupted iterator cancels what is under way.
        """
        if self._target is None:
            raise MullError("no λ is chosen", "call set_weights first")
        return self._generate(iter(requests), self._target)

    def _generate(self, waiting: Iterator[Request], target: Target) -> Iterator[Completion]:
        failed, in_row, under_way = 0, 0, 0
        last: Unanswered | None = None
        with _Background(target, self._endpoints.omit, self._concurrency, self._key, self._options) as background:
            while True:
                room = self._concurrency - under_way if in_row < self._concurrency else 0
                for request in islice(waiting, room):
                    background.send(request)
                    under_way += 1
                if not under_way:
                    break
                found = background.results.get()
                under_way -= 1
                if isinstance(found, Completion):
                    in_row = 0
                    yield found
                elif isinstance(found, Unanswered):
                    failed, in_row, last = failed + 1, in_row + 1, found
                else:
                    raise found
        if last is not None:
            count = "a request" if failed == 1 else f"{failed} requests"
            raise MullError(
                f"{count} got no response: {last}",
                "what came is on record: mend the cause, and the same command asks for the rest",
            )


class _Background:
    """An event loop in a thread that sends requests of one target and hands over what becomes of them."""

    def __init__(
        self, target: Target, omit: tuple[str, ...], concurrency: int, key: ApiKey, options: dict[str, Any]
    ) -> None:
        self.results: SimpleQueue[Completion | BaseException] = SimpleQueue()
        self._target, self._omit = target, omit
        self._client = ChatClient(key, concurrency=concurrency, **options)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="mull-requests")

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def send(self, request: Request) -> None:
        asyncio.run_coroutine_threadsafe(self._answer(request), self._loop)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with self._client:
            self._ready.set()
            await self._stop.wait()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    async def _answer(self, request: Request) -> None:
        try:
            messages = json.loads(bytes(request.prompt_ids).decode())
            body = request_body(self._target, messages, request.sampling, request.seed, self._omit)
            reply = await self._client.complete(self._target, body)
        except (asyncio.CancelledError, CancelledError):
            raise
        except BaseException as error:
            self.results.put(error)  # raised again where the results are taken
        else:
            self.results.put(
                Completion(
                    id=request.id,
                    token_ids=(),
                    logprobs=(),
                    text=reply.text,
                    finish=reply.finish,
                    seconds=reply.seconds,
                    counted=reply.tokens,
                    prompt_tokens=reply.prompt_tokens,
                    thought_tokens=reply.thought_tokens,
                )
            )


def _key(variable: str) -> str | None:
    value = os.environ.get(variable, "").strip()
    if not (value.isascii() and value.isprintable()):
        raise MullError(f"the key in the environment variable {variable} holds characters no key has", "set it anew")
    return value or None


def _listed(response: httpx2.Response) -> dict[str, int | None]:
    """The models that a server names, with their context in tokens where it says so; empty where it names none."""
    try:
        found = response.json()["data"] if response.is_success else []
        return {str(model["id"]): model.get("max_model_len") for model in found}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _check_room(target: Target, context: object, limit: int) -> None:
    if isinstance(context, int) and limit >= context:
        what = (
            f"{limit:,} tokens per response do not fit: {target.model!r} at {target.url} has a context of {context:,}"
        )
        raise MullError(what, "give a --max-tokens that leaves room for the prompt")
