"""The whole server: routes, and what stands before them: host names, keys, errors."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import HTTPException, RequestValidationError

from mull import __version__
from mull.serving.errors import ApiError
from mull.serving.playground.page import Page
from mull.serving.router import refusal, router_of
from mull.serving.service import Service

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

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        if close is not None:
            close()

    app = FastAPI(title="mull", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.include_router(router_of(service, page))

    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Any]) -> Response:
        if hosts is not None and not _is_known(request.headers.get("host", ""), hosts):
            return refusal(ApiError(403, "this server is not called by this host name", code="unknown_host"))
        if key is not None and request.url.path not in _OPEN and not _has_key(request, key):
            return refusal(ApiError(401, "the API key is missing or wrong", code="invalid_api_key"))
        return await call_next(request)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return refusal(ApiError(500, "the server failed", code="internal_error"))

    @app.exception_handler(HTTPException)
    @app.exception_handler(RequestValidationError)
    async def refused(request: Request, error: Exception) -> Response:
        status = getattr(error, "status_code", 400)
        return refusal(ApiError(status, "no such route or method" if status in (404, 405) else "bad request"))

    return app


def _has_key(request: Request, key: str) -> bool:
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    return kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), key.encode())


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
