"""The routes, as one FastAPI router that any application can mount.

Example:
    >>> app = fastapi.FastAPI()
    >>> app.include_router(router_of(service))
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, StreamingResponse
from prometheus_client import generate_latest

from mull.serving.errors import ApiError, bad
from mull.serving.playground.page import Page
from mull.serving.requests import ChatRequest, Common, TextRequest, parsed
from mull.serving.service import Asked, Service

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
        try:
            asked = await prepare(parsed(kind, await _body(request, service.limits.body_bytes)))
            headers = {"x-mull-lambda": f"{asked.lam:g}"}
            if not asked.stream:
                reply: Response = JSONResponse(await service.whole(asked), headers=headers)
            else:
                reply = StreamingResponse(
                    _closing(service.stream(asked)), media_type="text/event-stream", headers=headers
                )
        except ApiError as error:
            reply = refusal(error)
        service.metrics.requests.labels(route, str(reply.status_code)).inc()
        return reply

    @router.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        return await answered(request, "chat", ChatRequest, service.chat)

    @router.post("/v1/completions")
    async def completions(request: Request) -> Response:
        return await answered(request, "completions", TextRequest, service.text)

    @router.post("/v1/lambda")
    async def choose(request: Request) -> Response:
        """λ(q) of a conversation and why, for other people's routers. The body is that of a chat completion."""
        try:
            body = await _body(request, service.limits.body_bytes)
            asked = parsed(ChatRequest, {"model": service.levels.model, "lambda": "auto", **_object(body)})
            reply: Response = JSONResponse(await service.chosen(asked))
        except ApiError as error:
            reply = refusal(error)
        service.metrics.requests.labels("lambda", str(reply.status_code)).inc()
        return reply

    @router.get("/v1/models")
    async def models() -> dict[str, Any]:
        entries = [
            {"id": name, "object": "model", "created": 0, "owned_by": "mull"} for name in service.levels.listed()
        ]
        return {"object": "list", "data": entries}

    @router.get("/v1/models/{name:path}")
    async def model(name: str) -> Response:
        try:
            service.levels.wish(name, None, None)
        except ApiError as error:
            return refusal(error)
        return JSONResponse(_model(name))

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


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "mull"}


def refusal(error: ApiError) -> JSONResponse:
    return JSONResponse(error.body(), status_code=error.status, headers=error.headers)


async def _body(request: Request, most: int) -> Any:
    """The JSON of a request. Raises `ApiError` for one that is too long or no JSON; reads no more than `most` bytes."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > most:
            raise ApiError(413, f"the body is longer than {most:,} bytes", code="body_too_large")
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise bad("the body is no JSON") from None


def _object(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise bad("the body must be a JSON object")
    return body


async def _closing(events: AsyncIterator[str]) -> AsyncIterator[str]:
    """The same events; when the client leaves, the responses end."""
    async with aclosing(events) as found:  # type: ignore[type-var]
        async for event in found:
            yield event
