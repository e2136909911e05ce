"""The routes, as one FastAPI router that any application can mount.

Example:
    >>> app = fastapi.FastAPI()
    >>> app.include_router(router_of(service))
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, StreamingResponse
from prometheus_client import generate_latest
from starlette.requests import ClientDisconnect

from mull.serving.levels import number
from mull.serving.playground.page import Page
from mull.serving.service import Asked, Service
from mull.serving.wire.body import body_of, unless_gone
from mull.serving.wire.errors import ApiError, bad
from mull.serving.wire.requests import ChatRequest, Common, TextRequest, parsed

_REFUSED = ("responses", "embeddings", "images/generations", "audio/speech", "audio/transcriptions", "moderations")
"""Routes of OpenAI's API that are refused by name."""


def router_of(service: Service, page: Page | None = None) -> APIRouter:
    """The routes of `service`: models, chat and text completions, λ of a query, health and metrics; and the `page` of
    its playground, if it is to have one."""
    router = APIRouter()

    if page is not None:

        @router.get("/", include_in_schema=False)
        async def playground() -> Response:
            return HTMLResponse(page.html, headers=page.headers)

    async def answered(
        request: Request, route: str, kind: type[Common], prepare: Callable[[Any], Awaitable[Asked]]
    ) -> Response:
        async def reply(body: Any) -> Response:
            async with service.entered():
                asked = await prepare(parsed(kind, body))
            headers = {"x-mull-lambda": number(asked.lam)}
            if not asked.stream:
                return JSONResponse(await service.whole(asked), headers=headers)
            events = service.stream(asked)
            first = await anext(events)  # an error before it has a status of its own
            return StreamingResponse(_from(first, events), media_type="text/event-stream", headers=headers)

        return await counted(request, route, reply)

    async def counted(request: Request, route: str, reply: Callable[[Any], Coroutine[Any, Any, Response]]) -> Response:
        """The reply to a request's body, or its refusal. Nothing is done for a client that has left."""
        try:
            async with service.entered():
                body = await body_of(request, service.limits.body_bytes)
            response = await unless_gone(request, reply(body))
        except ApiError as error:
            response = refusal(error)
        except ClientDisconnect:
            response = Response(status_code=499)  # nobody reads it
        service.metrics.requests.labels(route, str(response.status_code)).inc()
        return response

    @router.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        return await answered(request, "chat", ChatRequest, service.chat)

    @router.post("/v1/completions")
    async def completions(request: Request) -> Response:
        return await answered(request, "completions", TextRequest, service.text)

    @router.post("/v1/lambda")
    async def choose(request: Request) -> Response:
        """λ(q) of a conversation and why, for other people's routers. The body is that of a chat completion."""

        async def reply(body: Any) -> Response:
            async with service.entered():
                asked = parsed(ChatRequest, {"model": service.levels.model, "lambda": "auto", **_object(body)})
                return JSONResponse(await service.chosen(asked))

        return await counted(request, "lambda", reply)

    @router.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [model_record(name) for name in service.levels.listed()]}

    @router.get("/v1/models/{name:path}")
    async def model(name: str) -> Response:
        try:
            service.levels.wish(name, None, None)
        except ApiError as error:
            return refusal(error)
        return JSONResponse(model_record(name))

    @router.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/metrics")
    async def metrics() -> PlainTextResponse:
        return PlainTextResponse(generate_latest(service.metrics.registry), media_type="text/plain; version=0.0.4")

    async def not_here() -> Response:
        return refusal(ApiError(404, "this route is not supported by this server", code="unsupported_route"))

    for path in _REFUSED:
        router.add_api_route(f"/v1/{path}", not_here, methods=["GET", "POST"], include_in_schema=False)
    return router


def model_record(name: str) -> dict[str, Any]:
    """What `/v1/models` says of a name."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "mull"}


def refusal(error: ApiError) -> JSONResponse:
    return JSONResponse(error.body(), status_code=error.status, headers=error.headers)


def _object(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise bad("the body must be a JSON object")
    return body


async def _from(first: str, events: AsyncIterator[str]) -> AsyncIterator[str]:
    """`first` and the others; when the client leaves, the responses end."""
    async with aclosing(events) as found:  # type: ignore[type-var]
        yield first
        async for event in found:
            yield event
