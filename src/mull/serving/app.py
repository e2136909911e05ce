"""The whole server: routes, and what stands before them: host names, keys, errors."""

from __future__ import annotations

import hmac
import inspect
import ipaddress
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from mull import __version__
from mull.serving.playground.page import Page
from mull.serving.router import refusal, router_of
from mull.serving.service import Service
from mull.serving.wire.errors import ApiError
from mull.serving.wire.openapi import errors

_OPEN = ("/health", "/")
"""Routes that need no key. The page of the playground sends the key that its user gives it with what it asks."""


def application(
    service: Service,
    *,
    key: str | None = None,
    hosts: frozenset[str] | None = None,
    close: Callable[[], Any] | None = None,
    page: Page | None = None,
) -> FastAPI:
    """The server as an ASGI application.

    `key`: what clients must send as bearer token. `hosts`: the host names by which it may be called, besides
    localhost and addresses; None: any. A web page elsewhere whose name was pointed at this machine (DNS rebinding)
    calls it by another name. `close` is called at shutdown. `page`: the playground, at `/`.
    """

    return guarded(router_of(service, page), key=key, hosts=hosts, close=close)


def guarded(
    router: APIRouter,
    *,
    key: str | None = None,
    hosts: frozenset[str] | None = None,
    close: Callable[[], Any] | None = None,
) -> FastAPI:
    """An application of these routes and what stands before them; see `application`. `close` may be a coroutine."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        ended = close() if close is not None else None
        if inspect.isawaitable(ended):
            await ended

    app = FastAPI(title="mull", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    refused_by = errors(*([401] if key is not None else []), *([403] if hosts is not None else []), 500)
    app.include_router(router, responses=refused_by)

    app.add_middleware(Guard, key=key, hosts=hosts)  # type: ignore[arg-type]

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return refusal(ApiError(500, "the server failed", code="internal_error"))

    @app.exception_handler(HTTPException)
    @app.exception_handler(RequestValidationError)
    async def refused(request: Request, error: Exception) -> Response:
        status = getattr(error, "status_code", 400)
        reply = refusal(ApiError(status, "no such route or method" if status in (404, 405) else "bad request"))
        reply.headers.update(getattr(error, "headers", None) or {})  # `Allow` of 405
        return reply

    return app


class Guard:
    """Lets through who calls by a known host name and has the key."""

    def __init__(self, app: ASGIApp, *, key: str | None, hosts: frozenset[str] | None) -> None:
        self._app, self._hosts = app, hosts
        self._key = None if key is None else key.encode(errors="surrogateescape")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = self._error(Request(scope)) if scope["type"] == "http" else None
        await (self._app if error is None else refusal(error))(scope, receive, send)

    def _error(self, request: Request) -> ApiError | None:
        if self._hosts is not None and not _is_known(request.headers.get("host", ""), self._hosts):
            return ApiError(403, "this server is not called by this host name", code="unknown_host")
        if self._key is not None and request.url.path not in _OPEN and not _has_key(request, self._key):
            return ApiError(401, "the API key is missing or wrong", code="invalid_api_key")
        return None


def _has_key(request: Request, key: bytes) -> bool:
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    return kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode("latin-1"), key)


def _is_known(host: str, hosts: frozenset[str]) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() and not host.endswith("]") else host
    name = name.strip("[]").lower()
    if name in ("localhost", *hosts):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
