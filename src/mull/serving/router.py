"""The routes, as one FastAPI router that any application can mount.

Example:
    >>> app = fastapi.FastAPI()
    >>> app.include_router(router_of(service))
"""

from __future__ import annotations

import logging
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
from mull.serving.wire import shapes
from mull.serving.wire.body import body_of, unless_gone
from mull.serving.wire.errors import ApiError, bad
from mull.serving.wire.openapi import answers, body, errors
from mull.serving.wire.requests import ChatRequest, Common, TextRequest, parsed

log = logging.getLogger(__name__)

_REFUSED = ("responses", "embeddings", "images/generations", "audio/speech", "audio/transcriptions", "moderations")
"""Routes of OpenAI's API that are refused by name."""


def router_of(service: Service, page: Page | None = None) -> APIRouter:
    """The routes of `service`: models, chat and text completions, λ of a query, health and metrics; and the `page` of
    its playground, if it is to have one."""
    router = APIRouter()
    levels = service.levels
    named: dict[str, Any] = {"models": levels.pattern, "names": levels.listed(), "efforts": levels.efforts}
    chat_body, text_body = body(ChatRequest, **named), body(TextRequest, **named)
    lambda_body = body(ChatRequest, **named, optional=["model"])
    chat_answers = answers(shapes.ChatCompletion, shapes.ChatChunk)
    text_answers = answers(shapes.TextCompletion, shapes.TextChunk)

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
            log.debug("%s: λ = %g, %d prompt tokens", asked.head.id, asked.lam, sum(asked.prompt_tokens))
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
        log.debug("%s: status %d", route, response.status_code)
        service.metrics.requests.labels(route, str(response.status_code)).inc()
        return response

    @router.post("/v1/chat/completions", responses=chat_answers, openapi_extra=chat_body)
    async def chat_completions(request: Request) -> Response:
        """The answer to a conversation, its thought apart."""
        return await answered(request, "chat", ChatRequest, service.chat)

    @router.post("/v1/completions", responses=text_answers, openapi_extra=text_body)
    async def completions(request: Request) -> Response:
        """How a text goes on, a thought in it as it was written."""
        return await answered(request, "completions", TextRequest, service.text)

    @router.post(
        "/v1/lambda",
        responses={200: {"model": shapes.Choice}, **errors(400, 404, 408, 413, 429, 500, 503)},
        openapi_extra=lambda_body,
    )
    async def choose(request: Request) -> Response:
        """λ(q) of a conversation and why, for other people's routers. The body is that of a chat completion."""

        async def reply(body: Any) -> Response:
            async with service.entered():
                asked = parsed(ChatRequest, {"model": levels.model, "lambda": "auto", **_object(body)})
                return JSONResponse(await service.chosen(asked))

        return await counted(request, "lambda", reply)

    @router.get("/v1/models")
    async def models() -> shapes.Models:
        """The pair, its levels and auto; any other λ works as well."""
        return {"object": "list", "data": [model_record(name) for name in levels.listed()]}

    path = {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "pattern": levels.pattern}}

    # Declared as a parameter, the name would bring FastAPI's own status 422 into the document.
    @router.get(
        "/v1/models/{name:path}",
        responses={200: {"model": shapes.Model}, **errors(400, 404)},
        openapi_extra={"parameters": [path]},
    )
    async def model(request: Request) -> Response:
        """Whether there is a model of this name."""
        name = request.path_params["name"]
        try:
            levels.wish(name, None, None)
        except ApiError as error:
            return refusal(error)
        return JSONResponse(model_record(name))

    @router.get("/health")
    async def health() -> shapes.Health:
        return {"status": "ok"}

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> PlainTextResponse:
        return PlainTextResponse(generate_latest(service.metrics.registry), media_type="text/plain; version=0.0.4")

    async def not_here() -> Response:
        return refusal(ApiError(404, "this route is not supported by this server", code="unsupported_route"))

    for path in _REFUSED:
        router.add_api_route(f"/v1/{path}", not_here, methods=["GET", "POST"], include_in_schema=False)
    return router


def model_record(name: str) -> shapes.Model:
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
