"""Responses from servers that speak OpenAI's chat API, one model per λ. Implements `mull.engines.base.Engine`.

Knows neither weights nor tokens: the server applies its chat template and counts tokens. An event loop in a thread
sends the requests while the caller grades and stores responses.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections.abc import Coroutine, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from itertools import islice
from queue import SimpleQueue
from typing import Any, Self

import httpx2

from mull.engines.base import Completion, Request, Sampling
from mull.engines.remote.chat import ChatClient, LimitField, request_body
from mull.engines.remote.endpoints import OMITTABLE, Endpoints, Target
from mull.engines.remote.refusals import ApiKey, RequestRefused, TemporaryError, Unanswered, refuse
from mull.engines.remote.transport import Answer, fetch, problem_of
from mull.errors import MullError
from mull.merging.coefficients import Coefficients
from mull.merging.coefficients.recipe import Recipe
from mull.merging.coefficients.rules import shortest

log = logging.getLogger(__name__)

KEY_VARIABLE = "MULL_API_KEY"
"""Not OPENAI_API_KEY: a user's key for OpenAI must not be sent to another server."""
CHECK_SECONDS = 120.0
"""Timeout of a test request for one token; some servers load a model on its first request."""


class RemoteEngine:
    """Sends requests to the server and model that belong to a λ.

    A response depends on how the server uses its seed; no server guarantees the same text in another batch.
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
        stream: bool = False,
        limit_field: LimitField = "max_tokens",
        through_proxies: bool = True,
    ) -> None:
        """`concurrency`: most requests at the same time. `retries`: how often a request is repeated after a temporary
        error; first after `backoff` seconds, then twice as long each time, with jitter. `timeout`: seconds to wait for
        one response, all of it. `per_minute`: most requests begun per minute and server. The API key is read from the
        environment variable `key_variable`, if it is set. `stream`: ask for the response piece by piece. `limit_field`:
        the name of the token limit. `through_proxies`: by those that the environment names.
        """
        self._endpoints = endpoints
        self._concurrency = concurrency
        self._key = ApiKey(key_variable, _key(key_variable))
        self._options: dict[str, Any] = {
            "retries": retries, "timeout": timeout, "per_minute": per_minute, "backoff": backoff,
            "through_proxies": through_proxies,
        }  # fmt: skip
        self._form: dict[str, Any] = {"stream": stream, "limit_field": limit_field}
        self._target: Target | None = None

    def set_weights(self, weights: Coefficients | Recipe) -> None:
        """Choose the target of a λ. Raises `MullError` if there is none, or if `weights` are not an interpolation."""
        label = (weights.coefficients if isinstance(weights, Recipe) else weights).label
        if isinstance(weights, Recipe) and not weights.is_interpolation:
            raise MullError(f"no endpoint stands for {label}", "give it a URL and a model")
        self._target = self._target_of(label)

    def _target_of(self, label: str) -> Target:
        if label not in self._endpoints.targets:
            raise MullError(f"no endpoint stands for {label}", "give it a URL and a model")
        return self._endpoints.targets[label]

    def render(self, messages: list[dict[str, str]]) -> tuple[int, ...]:
        """The conversation as it will be sent, as UTF-8 bytes of JSON: only the server knows token ids."""
        return tuple(json.dumps(messages, ensure_ascii=False).encode())

    def check(self, limit: int = 1) -> None:
        """Check that each server answers, accepts the key and has the models, with room for `limit` tokens.

        A model that the server does not list is tested with a request for one token. Raises `MullError` otherwise.
        """
        by_url: dict[str, list[Target]] = {}
        for target in self._endpoints.targets.values():
            by_url.setdefault(target.url, []).append(target)
        with _Background(self._client()) as background:
            for url, targets in by_url.items():
                background.start(self._check_url(background.client, url, targets, limit)).result()

    async def _check_url(self, client: ChatClient, url: str, targets: list[Target], limit: int) -> None:
        try:
            try:
                await self._check_server(client, url, targets, limit)
            except (httpx2.ReadError, httpx2.RemoteProtocolError):  # some servers hang up after an error
                await self._check_server(client, url, targets, limit)
        except TemporaryError:
            return  # the server is there, but busy
        except RequestRefused as error:
            raise MullError(str(error), "mend that, then run the same command") from None
        except httpx2.ConnectError as error:
            raise MullError(f"no server answers at {url} ({error})", "start it, or correct the URL") from None
        except (TimeoutError, httpx2.TimeoutException):
            raise MullError(f"the server at {url} does not answer in time", "see whether it is up") from None
        except httpx2.RequestError as error:
            raise MullError(f"{url} does not speak HTTP as expected ({error})", "correct the URL") from None

    async def _check_server(self, client: ChatClient, url: str, targets: list[Target], limit: int) -> None:
        answer = await fetch(client.http, "GET", f"{url}/models", None, CHECK_SECONDS)
        if answer.status in (401, 403) and (problem := problem_of(answer)):
            refuse(problem, targets[0], self._key)
        listed = _listed(answer)
        for target in targets:
            if target.model in listed:
                if "max_tokens" not in self._endpoints.omit:
                    _check_room(target, listed[target.model], limit)
                continue
            omit = {*OMITTABLE} - {"max_tokens", "stream_options"} | {*self._endpoints.omit}
            message = {"role": "user", "content": "1"}
            body = request_body(target, [message], Sampling(max_tokens=1), 0, omit, **self._form)
            await client.post(target, body, CHECK_SECONDS, listed)

    def _client(self) -> ChatClient:
        return ChatClient(self._key, concurrency=self._concurrency, **self._options)

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Completions in the order in which they finish; at most `concurrency` requests are taken ahead.

        If a request fails in all tries, the others go on; after `concurrency` failures in a row, no more are sent.
        Either way `MullError` is raised at the end. For a wrong key or model it is raised at once. Dropping or
        interrupting the iterator cancels the requests. A request that names its λ goes to the target of that one.
        """
        return self._generate(iter(requests))

    def _generate(self, waiting: Iterator[Request]) -> Iterator[Completion]:
        failed, failed_in_row, pending = 0, 0, 0
        last: Unanswered | None = None
        results: SimpleQueue[Completion | BaseException] = SimpleQueue()
        with _Background(self._client()) as background:
            while True:
                room = self._concurrency - pending if failed_in_row < self._concurrency else 0
                for request in islice(waiting, room):
                    target = self._target if request.lam is None else self._target_of(shortest(request.lam))
                    if target is None:
                        raise MullError("no λ is chosen", "call set_weights first")
                    background.start(self._answer(background.client, target, request, results))
                    pending += 1
                if not pending:
                    break
                found = results.get()
                pending -= 1
                if isinstance(found, Completion):
                    failed_in_row = 0
                    yield found
                elif isinstance(found, Unanswered):
                    failed, failed_in_row, last = failed + 1, failed_in_row + 1, found
                else:
                    raise found
        if last is not None:
            count = "a request" if failed == 1 else f"{failed} requests"
            raise MullError(
                f"{count} got no response: {last}",
                "what came is on record: mend the cause, and the same command asks for the rest",
            )

    async def _answer(
        self,
        client: ChatClient,
        target: Target,
        request: Request,
        results: SimpleQueue[Completion | BaseException],
    ) -> None:
        """Put the completion or what went wrong into `results`."""
        try:
            messages = json.loads(bytes(request.prompt_ids).decode())
            omit = self._endpoints.omit
            body = request_body(target, messages, request.sampling, request.seed, omit, **self._form)
            reply = await client.complete(target, body)
        except (asyncio.CancelledError, CancelledError):
            raise
        except BaseException as error:
            results.put(error)  # `_generate` raises it
        else:
            log.debug("%s: %s after %.1f s", target.model, reply.finish, reply.seconds)
            results.put(
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
                    forced=_spent(reply.thought_tokens, request.sampling.thinking_budget),
                )
            )


def _spent(thought_tokens: int | None, budget: int | None) -> bool:
    """Whether a thought took all of its budget: servers do not say that they closed it."""
    return budget is not None and thought_tokens is not None and thought_tokens >= budget


class _Background:
    """An event loop in a thread, and the client that sends its requests."""

    def __init__(self, client: ChatClient) -> None:
        self.client = client
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="mull-requests")

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def start(self, work: Coroutine[Any, Any, None]) -> Future[None]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with self.client:
            self._ready.set()
            await self._stop.wait()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)


def _key(variable: str) -> str | None:
    value = os.environ.get(variable, "").strip()
    if not (value.isascii() and value.isprintable()):
        raise MullError(f"the key in the environment variable {variable} holds characters no key has", "set it anew")
    return value or None


def _listed(answer: Answer) -> dict[str, int | None]:
    """The models that a server lists, with their context in tokens or None; empty if it lists none."""
    try:
        found = answer.data["data"] if answer.succeeded else []
        return {str(model["id"]): model.get("max_model_len") for model in found}
    except (KeyError, TypeError, AttributeError):
        return {}


def _check_room(target: Target, context: object, limit: int) -> None:
    if isinstance(context, int) and limit >= context:
        what = (
            f"{limit:,} tokens per response do not fit: {target.model!r} at {target.url} has a context of {context:,}"
        )
        raise MullError(what, "give a --max-tokens that leaves room for the prompt")
