"""A response that the server behind gives, patched on its way to the client."""

from __future__ import annotations

import json
from collections.abc import Callable, MutableMapping
from typing import Any

from fastapi import Response
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mull.serving.front.patching import Patch, dumped
from mull.serving.router import refusal
from mull.serving.wire.errors import ApiError

_CHANGED = (b"content-length", b"transfer-encoding")


class Forwarded(Response):
    """Sends `body` to the server behind, at the path of the request, and its reply to the client.

    Replies that are errors stay as they are. A client that leaves is a client that leaves the server behind.
    """

    def __init__(
        self,
        inner: ASGIApp,
        body: Any,
        patch: Patch,
        headers: dict[str, str],
        *,
        begun: Callable[[], None] = lambda: None,
        ended: Callable[[int], None] = lambda status: None,
    ) -> None:
        """`begun` is called at the first byte of the reply's body, `ended` with its status, 499 if the client left."""
        self.background = None
        self._inner, self._body, self._patch = inner, dumped(body), patch
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]
        self._on_begin, self._on_end = begun, ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = [(name, value) for name, value in scope["headers"] if name not in (*_CHANGED, b"content-type")]
        length = str(len(self._body)).encode()
        given += [(b"content-type", b"application/json"), (b"content-length", length)]
        patched = _Patched(send, self._patch, self._headers, self._on_begin)
        try:
            await self._inner({**scope, "headers": given}, _replay(self._body, receive), patched)
        except ApiError as error:
            await patched.broken(error, scope, receive)
        except ClientDisconnect:
            patched.status = 499
        finally:
            self._on_end(patched.status)


def _replay(body: bytes, receive: Receive) -> Receive:
    """What the server behind receives: `body`, and whether the client has left."""
    read = False

    async def again() -> Message:
        nonlocal read
        if not read:
            read = True
            return {"type": "http.request", "body": body, "more_body": False}
        while True:  # what else the client may send belongs to the body that was read
            message = await receive()
            if message["type"] == "http.disconnect":
                return message

    return again


class _Patched:
    """Takes what the server behind sends, and sends it on."""

    def __init__(self, send: Send, patch: Patch, headers: list[tuple[bytes, bytes]], begun: Callable[[], None]) -> None:
        self.status = 500
        self._send, self._patch, self._headers, self._on_begin = send, patch, headers, begun
        self._start: MutableMapping[str, Any] = {}
        self._streams = self._buffers = False
        self._content = bytearray()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._started(message)
        elif message["type"] != "http.response.body":
            await self._send(message)
        elif self._buffers:
            self._content += message.get("body", b"")
            if not message.get("more_body", False):
                await self._whole()
        else:
            await self._passed(message)

    async def broken(self, error: ApiError, scope: Scope, receive: Receive) -> None:
        """The reply broke off: the client is told so by a status, or by the last event of a stream. Raises `error` if
        it cannot be told."""
        if self._streams:
            await self._send({"type": "http.response.body", "body": b"data: " + dumped(error.body()) + b"\n\n"})
        elif self._buffers or not self._start:
            self.status = error.status
            await refusal(error)(scope, receive, self._send)
        else:
            raise error

    async def _started(self, message: Message) -> None:
        self.status = message["status"]
        headers = [(name.lower(), value) for name, value in message.get("headers", ())]
        kind = dict(headers).get(b"content-type", b"")
        self._streams = self.status == 200 and kind.startswith(b"text/event-stream")
        self._buffers = self.status == 200 and kind.startswith(b"application/json")
        if self._streams or self._buffers:
            headers = [each for each in headers if each[0] not in _CHANGED]
        self._start = {**message, "headers": [*headers, *self._headers]}
        if not self._buffers:
            await self._send(self._start)

    async def _whole(self) -> None:
        """A reply in one piece. One that is no object is sent as it came."""
        self._on_begin()
        content = bytes(self._content)
        try:
            reply = json.loads(content)
        except ValueError:
            reply = None
        if isinstance(reply, dict):
            content = dumped(self._patch.whole(reply))
        headers = [*self._start["headers"], (b"content-length", str(len(content)).encode())]
        await self._send({**self._start, "headers": headers})
        await self._send({"type": "http.response.body", "body": content})

    async def _passed(self, message: Message) -> None:
        content, more = message.get("body", b""), message.get("more_body", False)
        if self._streams:
            content = self._patch.push(content) + (b"" if more else self._patch.finish())
            if content:
                self._on_begin()
        if content or not more:
            await self._send({**message, "body": content})
