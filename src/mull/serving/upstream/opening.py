"""Opens the proxy: the front's routes, before servers elsewhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import httpx2
from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import generate_latest

from mull.engines.remote.endpoints import PLACE
from mull.errors import MullError
from mull.serving.front.front import Front
from mull.serving.front.router import front_router
from mull.serving.levels import number
from mull.serving.playground.page import Page
from mull.serving.upstream.forwarder import CONNECT_SECONDS, Forwarder, Upstream

_LEVEL = re.compile(r".+@[0-9.]+")


def base_name(upstreams: Sequence[Upstream], key: str | None) -> str:
    """The name by which the servers behind know the pair: the first that the first of them lists.

    Raises `MullError` if none of them answers, or they serve other models than each other, or a model for each λ.
    """
    found = _listed(upstreams, key)
    first = next(iter(found.values()))[0]["id"]
    lacking = next((url for url, models in found.items() if first not in (each["id"] for each in models)), None)
    if lacking is not None:
        raise MullError(f"{lacking} does not serve {first!r}", "let all servers serve one pair under one name")
    for url, models in found.items():
        adapter = next((each["id"] for each in models if each.get("parent") and _LEVEL.fullmatch(each["id"])), None)
        if adapter is not None:  # this server would answer as its base model, whatever the λ
            name = adapter.rpartition("@")[0]
            remedy = f"give --upstream-model '{name}@{PLACE}'"
            raise MullError(f"{url} has no λ per request, but adapters for some λ, as {adapter!r}", remedy)
    return first


def lambdas_behind(upstreams: Sequence[Upstream], key: str | None, pattern: str) -> list[float]:
    """The λ that all servers behind have a model for, called as `pattern` with {lambda} in it; rising.

    Raises `MullError` if none of them answers, or there is no such λ.
    """
    expression = re.escape(pattern).replace(re.escape(PLACE), "(.+)", 1)
    common: set[float] | None = None
    for models in _listed(upstreams, key).values():
        found = [re.fullmatch(expression, each["id"]) for each in models]
        lams = {lam for each in found if each and (lam := _lambda(each[1])) is not None}
        common = lams if common is None else common & lams
    if not common:
        what = f"the servers behind have no model in common that is called as {pattern!r}"
        raise MullError(what, "give the name that they list, with {lambda} in place of the λ")
    return sorted(common)


def _lambda(text: str) -> float | None:
    """The λ that is written so by mull."""
    try:
        lam = float(text)
    except ValueError:
        return None
    return lam if 0 <= lam <= 1 and number(lam) == text else None


def _listed(upstreams: Sequence[Upstream], key: str | None) -> dict[str, list[dict[str, Any]]]:
    """The models of each server that answers, by its URL. Raises `MullError` if none does."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    found: dict[str, list[dict[str, Any]]] = {}
    why = "no model is listed"
    for upstream in upstreams:
        try:
            reply = httpx2.get(f"{upstream.url}/v1/models", headers=headers, timeout=CONNECT_SECONDS, trust_env=False)
            models = [{**each, "id": str(each["id"])} for each in reply.json()["data"]] if reply.is_success else []
            why = why if reply.is_success else f"status {reply.status_code}"
        except (httpx2.HTTPError, ValueError, LookupError, TypeError) as error:
            why = type(error).__name__
            continue
        if models:
            found[upstream.url] = models
    if not found:
        raise MullError(
            f"no server behind lists its models ({why})",
            "start them first, set MULL_UPSTREAM_KEY if they ask for a key, or give --upstream-model NAME",
        )
    return found


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
