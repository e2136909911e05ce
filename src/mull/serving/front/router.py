"""The routes of the front, as one FastAPI router: what carries a λ is handed on, models and λ are answered here."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from mull.serving.front.forwarded import Forwarded
from mull.serving.front.front import Front
from mull.serving.front.patching import Patch
from mull.serving.front.rewriting import Route, limit_of, rewritten
from mull.serving.levels import number
from mull.serving.playground.page import Page
from mull.serving.router import model_record, refusal
from mull.serving.wire.body import body_of, unless_gone
from mull.serving.wire.errors import ApiError, bad

log = logging.getLogger(__name__)


def front_router(front: Front, inner: ASGIApp, page: Page | None = None) -> APIRouter:
    """The routes before `inner`, which answers the same paths; and the `page` of the playground, if there is one."""
    router = APIRouter()

    if page is not None:

        @router.get("/", include_in_schema=False)
        async def playground() -> Response:
            return HTMLResponse(page.html, headers=page.headers)

    async def answered(request: Request, route: Route) -> Response:
        async def reply(body: dict[str, Any]) -> Response:
            began = time.perf_counter()
            lam, said = await front.wish(body, route, began=began)
            log.debug("%s: λ = %g", route, lam)
            new = rewritten(body, route, base=front.base, lam=lam, undecided=front.undecided)
            patch = Patch(route, front.levels.name(lam), said, front.parting(body, lam))
            watch = _Watch(front, route, patch, body, lam, began)
            headers = {"x-mull-lambda": number(lam)}
            return Forwarded(inner, new, patch, headers, begun=watch.begun, ended=watch.ended)

        return await refusing(request, route, reply)

    async def refusing(
        request: Request, name: str, reply: Callable[[dict[str, Any]], Coroutine[Any, Any, Response]]
    ) -> Response:
        """The reply to a request's body, or its refusal."""
        forwarded = False
        front.enter()
        try:
            front.check_room()
            async with asyncio.timeout(front.limits.seconds):
                body = await body_of(request, front.limits.body_bytes)
                if not isinstance(body, dict):
                    raise bad("the body must be a JSON object")
                response = await unless_gone(request, reply(body))
            forwarded = isinstance(response, Forwarded)  # it says itself when it ends
            return response
        except ApiError as error:
            return counted(name, refusal(error))
        except TimeoutError:
            late = f"the request was not whole, or its λ not chosen, after {front.limits.seconds:g} seconds"
            return counted(name, refusal(ApiError(408, late, code="timeout")))
        except ClientDisconnect:
            return counted(name, Response(status_code=499))  # nobody reads it
        finally:
            if not forwarded:
                front.leave()

    def counted(name: str, response: Response) -> Response:
        log.debug("%s: status %d", name, response.status_code)
        front.metrics.requests.labels(name, str(response.status_code)).inc()
        return response

    @router.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        return await answered(request, Route.chat)

    @router.post("/v1/completions")
    async def completions(request: Request) -> Response:
        return await answered(request, Route.completions)

    @router.post("/v1/responses")
    async def responses(request: Request) -> Response:
        return await answered(request, Route.responses)

    @router.post("/v1/lambda")
    async def choose(request: Request) -> Response:
        """λ(q) of a conversation and why, for other people's routers. The body is that of a chat completion."""

        async def reply(body: dict[str, Any]) -> Response:
            given = {"model": front.levels.model, "lambda": "auto", **body}
            lam, said = await front.wish(given, Route.chat, began=time.perf_counter())
            return counted("lambda", JSONResponse({"model": front.levels.name(lam), "mull": said}))

        return await refusing(request, "lambda", reply)

    @router.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [model_record(name) for name in front.levels.listed()]}

    @router.get("/v1/models/{name:path}")
    async def model(name: str) -> Response:
        try:
            front.levels.wish(name, None, None)
        except ApiError as error:
            return refusal(error)
        return JSONResponse(model_record(name))

    return router


class _Watch:
    """Times and counts one request that is handed on."""

    def __init__(
        self, front: Front, route: Route, patch: Patch, body: dict[str, Any], lam: float, began: float
    ) -> None:
        self._front, self._route, self._patch = front, route, patch
        self._limit, self._single, self._lam, self._began = limit_of(body), body.get("n") in (None, 1), lam, began
        self._load, self._is_begun = front.under_way, False

    def begun(self) -> None:
        if not self._is_begun:
            self._front.metrics.first_token.observe(time.perf_counter() - self._began)
            self._is_begun = True

    def ended(self, status: int) -> None:
        metrics, usage = self._front.metrics, self._patch.usage
        metrics.requests.labels(self._route, str(status)).inc()
        tokens = _count(usage, "completion_tokens", "output_tokens")
        details = usage.get("completion_tokens_details") or usage.get("output_tokens_details")
        reasoning = min(tokens, _count(details, "reasoning_tokens"))
        if tokens and self._single:
            self._front.load.tokens.add(self._lam, tokens, whole=self._limit is None or tokens < self._limit)
            # Its wait included: when a token came, only the server behind knows.
            self._front.load.between_tokens.add(self._load, (time.perf_counter() - self._began) / tokens)
        metrics.prompt_tokens.inc(_count(usage, "prompt_tokens", "input_tokens"))
        metrics.tokens.labels("reasoning").inc(reasoning)
        metrics.tokens.labels("other").inc(tokens - reasoning)
        self._front.leave()


def _count(found: Any, *names: str) -> int:
    """The number under the first of these names that has one; 0 without."""
    values = (found.get(name) for name in names) if isinstance(found, dict) else ()
    return next((value for value in values if isinstance(value, int) and value >= 0), 0)
