"""A real server on the built-in pair, in a thread of this process, and clients of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import uvicorn

from mull import tiny
from mull.benchmarks import FREE_ANSWER
from mull.dynamic.base import Estimator
from mull.dynamic.estimators.conf import zero_shot
from mull.engines.base import Sampling
from mull.engines.local.engine import LocalEngine
from mull.serving.app import application
from mull.serving.backend import Limits, LocalBackend
from mull.serving.levels import Levels, Undecided
from mull.serving.load.control import LoadControl
from mull.serving.service import Service


@dataclass(frozen=True)
class Server:
    """A server under way."""

    url: str
    service: Service
    engine: LocalEngine

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)

    def post(self, path: str, body: Any = None, **options: Any) -> httpx2.Response:
        options |= {} if body is None else {"json": body}
        return httpx2.post(f"{self.url}{path}", timeout=120, **options)

    def wait_until_free(self) -> None:
        """Until no response is under way; a test's limit of time ends it otherwise."""
        while self.service.backend.under_way:
            time.sleep(0.01)


@pytest.fixture(scope="package")
def engine() -> LocalEngine:
    return engine_of(tiny.checkpoint_folder("instruct"), tiny.checkpoint_folder("thinking"))


def engine_of(instruct: Path, thinking: Path) -> LocalEngine:
    return LocalEngine(instruct, thinking, by_row=True, device="cpu", processes=1)


@contextmanager
def serving(
    engine: LocalEngine,
    *,
    default: float | None = 0.7,
    undecided: Undecided | None = None,
    key: str | None = None,
    hosts: frozenset[str] | None = frozenset(),
    load: LoadControl | None = None,
    estimator: Estimator = zero_shot(FREE_ANSWER),  # noqa: B008  (immutable)
    prefix_bytes: int | None = None,
    **limits: Any,
) -> Iterator[Server]:
    """A server on a free port of this machine."""
    limit = Limits(**{"max_tokens": 400, "waiting": 64, **limits})
    sampling = Sampling(max_tokens=400)
    backend = LocalBackend(
        engine,
        estimator=estimator,
        form=FREE_ANSWER,
        limits=limit,
        sampling=sampling,
        prefix_bytes=prefix_bytes,
    )
    levels = Levels(model="mull", default=default)
    decided = Undecided.of(tiny.THINK_RATIO) if undecided is None else undecided
    service = Service(backend, levels, limits=limit, sampling=sampling, undecided=decided, load=load)
    app = application(service, key=key, hosts=hosts, close=backend.close)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Server(f"http://127.0.0.1:{port}", service, engine)
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def server(engine: LocalEngine) -> Iterator[Server]:
    with serving(engine) as found:
        yield found


@pytest.fixture(scope="module")
def serve(engine: LocalEngine) -> Callable[..., Any]:
    """Servers with other settings: a context. `on`: another pair, by the folders of both sides."""

    def start(on: tuple[Path, Path] | None = None, **settings: Any) -> Any:
        return serving(engine_of(*on) if on else engine, **settings)

    return start


def asked(text: str = "What is the sum of 3 4 5 6 7?") -> list[Any]:
    return [{"role": "user", "content": text}]


@pytest.fixture(scope="session")
def ask() -> Callable[..., list[Any]]:
    """A conversation of one question."""
    return asked
