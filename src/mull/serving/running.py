"""Runs an application on a port of this machine until Ctrl-C."""

from __future__ import annotations

import socket
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


def run_app(app: Any, host: str, listener: socket.socket) -> None:
    """Serves `app` there."""
    port = listener.getsockname()[1]
    config = uvicorn.Config(
        app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=5, server_header=False
    )
    uvicorn.Server(config).run(sockets=[listener])
