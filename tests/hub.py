"""A hub of our own on this machine, which takes uploads from the real client."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import huggingface_hub
import pytest


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does to the client's first questions; `status` is its answer to a new repository."""

    asked: ClassVar[list[tuple[str, str, Any]]] = []
    status = 200

    def _answer(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.asked.append(("GET", self.path, None))
        self._answer(404, {"error": "not here"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.asked.append(("POST", self.path, body))
        if self.path == "/api/repos/create":
            self._answer(
                self.status,
                {"url": "https://huggingface.co/me/mixed"} if self.status == 200 else {"error": "no rights"},
            )
        elif self.path == "/api/validate-yaml":
            self._answer(200, {"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            self._answer(
                200, {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
            )
        elif "/commit/" in self.path:
            self._answer(200, {"commitUrl": "https://huggingface.co/me/mixed/commit/0123", "commitOid": "0123"})
        else:
            self._answer(404, {"error": "not here"})

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    """The hub of this process, with a token of its user."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(
        huggingface_hub, "HfApi", lambda: huggingface_hub.hf_api.HfApi(endpoint=address, token="hf_secret")
    )
    Hub.asked, Hub.status = [], 200
    yield Hub
    server.shutdown()
