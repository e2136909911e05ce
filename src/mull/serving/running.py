"""Runs an application on a port of this machine until Ctrl-C."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import uvicorn

from mull.errors import MullError


def listening(host: str, port: int) -> socket.socket:
    """A socket on that address; raises `MullError` if there can be none. Before weights are loaded, so that nobody
    waits in vain."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        what = f"cannot listen on {host}:{port}: {error.strerror or error}"
        raise MullError(what, "give another --port, or --port 0 for any free one") from None


def url_of(host: str, listener: socket.socket) -> str:
    """The base URL of the API there."""
    return f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}/v1"


GRACE = 5
"""Seconds from Ctrl-C to the end of connections that are still open."""


def run_app(app: Any, host: str, listener: socket.socket, end: Callable[[], object] = lambda: None) -> None:
    """Serves `app` there. `end` ends the responses under way, a moment before their connections are cut at shutdown."""
    port = listener.getsockname()[1]
    config = uvicorn.Config(
        app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=GRACE, server_header=False
    )
    _Server(config, end).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Cut connections are errors with a traceback in uvicorn's log; so responses are told to end before that."""

    def __init__(self, config: uvicorn.Config, end: Callable[[], object]) -> None:
        super().__init__(config)
        self._end = end

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        soon = loop.call_later(GRACE - 2, loop.run_in_executor, None, self._end)
        try:
            await super().shutdown(sockets)
        finally:
            soon.cancel()
