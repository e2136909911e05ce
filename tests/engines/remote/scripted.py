"""A server that says exactly what a test tells it to, byte by byte, good HTTP or not."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Iterable
from typing import Any


def http(body: Any, status: int = 200, kind: str = "application/json", **headers: str) -> bytes:
    """A whole reply. `body`: bytes, or what JSON is made of."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return head(status, kind, **{"Content-Length": str(len(data)), **headers}) + data


def head(status: int = 200, kind: str = "application/json", **headers: str) -> bytes:
    """The beginning of a reply, which ends with the connection unless `headers` say otherwise."""
    lines = {"Content-Type": kind, "Connection": "close", **headers}
    return "\r\n".join(
        [f"HTTP/1.1 {status} Said", *(f"{key}: {value}" for key, value in lines.items()), "", ""]
    ).encode()


def events(*data: Any, end: bytes = b"\n") -> bytes:
    """A stream of server-sent events, each the JSON of `data`, or the bytes themselves."""
    texts = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in data]
    return b"".join(b"data: " + text + end + end for text in texts)


class ScriptedServer:
    """Answers the n-th POST with `script[n]`, the last one from then on, and GET with 404."""

    def __init__(self, script: list[bytes | Callable[[], Iterable[bytes]]]) -> None:
        self.requests: list[dict[str, Any]] = []
        """The JSON of the requests, each with its headers under `headers`."""
        self.sent = 0
        """Bytes that the client has taken."""
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                method = self.rfile.readline().split(b" ")[0]
                lines = iter(self.rfile.readline, b"\r\n")
                headers = {name.lower(): value for name, value in (line.decode().strip().split(": ") for line in lines)}
                if method == b"GET":
                    self.wfile.write(http({}, 404))
                    return
                body = json.loads(self.rfile.read(int(headers["content-length"])))
                said = script[min(len(outer.requests), len(script) - 1)]
                outer.requests.append({**body, "headers": headers})
                for chunk in [said] if isinstance(said, bytes) else said():
                    self.wfile.write(chunk)
                    outer.sent += len(chunk)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """The client hung up."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
