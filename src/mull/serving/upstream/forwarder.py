"""Hands requests on to one of several servers, and their replies back piece by piece. An ASGI application.

A server that cannot be reached is left alone for a while. A request is given to another one only as long as nothing
of a reply has come.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

import httpx2
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from mull.errors import MullError
from mull.serving.router import refusal
from mull.serving.wire.errors import ApiError

CONNECT_SECONDS = 5.0
COOLING_SECONDS = 10.0
"""For so long a server that failed is asked only if no other is left."""
PROBE_SECONDS = 2.0
"""Between two questions whether the servers are there, and for the answer."""
_BUSY = (429, 502, 503)
"""Answers after which another server may do better."""
_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization te trailer transfer-encoding upgrade".split()
)
_NOT_ON = _HOP | {b"host", b"content-length", b"authorization", b"cookie", b"accept-encoding", b"expect"}
"""Headers of a client that are its own affair with this server."""
_NOT_BACK = _HOP | {b"content-length", b"content-encoding", b"set-cookie", b"server", b"date"}


class Upstream:
    """One server."""

    def __init__(self, url: str) -> None:
        """`url`: with or without `/v1` at its end. Raises `MullError` for what is no address of a server."""
        parts = urlsplit(url.strip())
        try:
            usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
        except ValueError:
            usable = False
        if not usable or parts.query or parts.fragment or parts.username or parts.password:
            raise MullError(f"{url!r} is no address of a server", "give one like http://gpu-1:8000")
        self.url = parts.geturl().rstrip("/").removesuffix("/v1").rstrip("/")
        self.failed_at = float("-inf")

    @property
    def cooling(self) -> bool:
        return time.monotonic() - self.failed_at < COOLING_SECONDS


class Forwarder:
    """The servers behind, taken in turns."""

    def __init__(self, upstreams: Sequence[Upstream], *, key: str | None = None, seconds: float = 600.0) -> None:
        """`key`: what the servers are sent as bearer token. `seconds`: how long one may be silent."""
        self.upstreams = list(upstreams)
        self._next = 0
        self._answers, self._asked_at = False, float("-inf")
        self.client = httpx2.AsyncClient(
            headers={"accept-encoding": "identity", **({"authorization": f"Bearer {key}"} if key else {})},
            timeout=httpx2.Timeout(seconds, connect=CONNECT_SECONDS),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=256),
            trust_env=False,
        )

    async def close(self) -> None:
        await self.client.aclose()

    async def reachable(self) -> bool:
        """Whether a server answers, asked at most every few seconds. One that does is taken in its turn again."""
        if time.monotonic() - self._asked_at > PROBE_SECONDS:
            self._asked_at = time.monotonic()
            self._answers = any(await asyncio.gather(*map(self._is_up, self.upstreams)))
        return self._answers

    async def _is_up(self, upstream: Upstream) -> bool:
        try:
            reply = await self.client.get(f"{upstream.url}/health", timeout=PROBE_SECONDS)
            up = reply.status_code < 500  # a balancer need not have this route
        except httpx2.HTTPError:
            up = False
        upstream.failed_at = float("-inf") if up else time.monotonic()
        return up

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The reply of a server, or a refusal. Ends when the client leaves, and then leaves the server, too.

        Raises `ApiError` if a reply breaks off that has begun, and `ClientDisconnect` if the client leaves.
        """
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        work = asyncio.create_task(self._answer(scope, bytes(body), send))
        gone = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ClientDisconnect
            await work
        finally:
            work.cancel()
            gone.cancel()
            await asyncio.wait({work, gone})

    async def _answer(self, scope: Scope, body: bytes, send: Send) -> None:
        headers = [(name, value) for name, value in scope["headers"] if name.lower() not in _NOT_ON]
        path = scope["path"] + (f"?{scope['query_string'].decode('latin-1')}" if scope.get("query_string") else "")
        response = await self._reached(scope["method"], path, headers, body)
        if isinstance(response, ApiError):
            await refusal(response)(scope, _nothing, send)
            return
        try:
            kept = [(name.lower(), value) for name, value in response.headers.raw if name.lower() not in _NOT_BACK]
            await send({"type": "http.response.start", "status": response.status_code, "headers": kept})
            try:
                async for piece in response.aiter_bytes():
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            except httpx2.HTTPError:
                raise ApiError(502, "the server behind broke off its reply", code="upstream_broke_off") from None
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await response.aclose()

    async def _reached(
        self, method: str, path: str, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> httpx2.Response | ApiError:
        """The reply of the first server that has one; what comes after its headers is not read yet."""
        turns = self._turns()
        said = ApiError(502, "no server behind this one can be reached", code="upstream_unavailable", retry=5)
        for upstream in turns:
            request = self.client.build_request(method, upstream.url + path, headers=headers, content=body)
            try:
                response = await self.client.send(request, stream=True)
            except (httpx2.ReadTimeout, httpx2.WriteTimeout):  # it may be at work on the response
                return ApiError(504, "the server behind did not answer in time", code="timeout")
            except httpx2.HTTPError:
                upstream.failed_at = time.monotonic()
                continue
            if response.status_code not in _BUSY or upstream is turns[-1]:
                return response
            await response.aclose()
        return said

    def _turns(self) -> list[Upstream]:
        """All servers in the order in which they are tried."""
        first, self._next = self._next, (self._next + 1) % len(self.upstreams)
        turns = self.upstreams[first:] + self.upstreams[:first]
        return sorted(turns, key=lambda upstream: upstream.cooling)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _nothing() -> dict[str, str]:
    return {"type": "http.disconnect"}
