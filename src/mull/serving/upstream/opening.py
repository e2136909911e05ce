"""Opens the proxy: the front's routes, before servers elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import httpx2
from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import generate_latest

from mull.errors import MullError
from mull.serving.front.front import Front
from mull.serving.front.router import front_router
from mull.serving.playground.page import Page
from mull.serving.upstream.forwarder import CONNECT_SECONDS, Forwarder, Upstream


def base_name(upstreams: Sequence[Upstream], key: str | None) -> str:
    """The name by which the servers behind know the pair: the first that the first of them lists.

    Raises `MullError` if none of them answers, or they serve other models than each other.
    """
    headers = {"authorization": f"Bearer {key}"} if key else {}
    found: dict[str, list[str]] = {}
    why = "no model is listed"
    for upstream in upstreams:
        try:
            reply = httpx2.get(f"{upstream.url}/v1/models", headers=headers, timeout=CONNECT_SECONDS, trust_env=False)
            names = [str(each["id"]) for each in reply.json()["data"]] if reply.is_success else []
            why = why if reply.is_success else f"status {reply.status_code}"
        except (httpx2.HTTPError, ValueError, LookupError, TypeError) as error:
            why = type(error).__name__
            continue
        if names:
            found[upstream.url] = names
    if not found:
        raise MullError(
            f"no server behind lists its models ({why})",
            "start them first, set MULL_UPSTREAM_KEY if they ask for a key, or give --upstream-model NAME",
        )
    first = next(iter(found.values()))[0]
    lacking = next((url for url, names in found.items() if first not in names), None)
    if lacking is not None:
        raise MullError(f"{lacking} does not serve {first!r}", "let all servers serve one pair under one name")
    return first


def proxy_router(front: Front, forwarder: Forwarder, page: Page | None = None) -> APIRouter:
    """All routes of the proxy: those of the front, health and metrics."""
    router = APIRouter()
    router.include_router(front_router(front, forwarder, page))

    @router.get("/health")
    async def health() -> Response:
        """Whether a server behind can be reached."""
        up = await forwarder.reachable()
        return JSONResponse({"status": "ok" if up else "no server behind can be reached"}, 200 if up else 503)

    @router.get("/metrics")
    async def metrics() -> PlainTextResponse:
        return PlainTextResponse(generate_latest(front.metrics.registry), media_type="text/plain; version=0.0.4")

    return router
