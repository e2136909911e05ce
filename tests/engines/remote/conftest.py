"""Servers that say what a test tells them to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pytest

from .scripted import ScriptedServer


@pytest.fixture
def say() -> Iterator[Callable[..., ScriptedServer]]:
    """Starts a server that answers with the given replies, one after the other."""
    started: list[ScriptedServer] = []

    def start(*script: bytes | Callable[[], Iterable[bytes]]) -> ScriptedServer:
        started.append(ScriptedServer(list(script)))
        return started[-1]

    yield start
    for each in started:
        each.server.shutdown()
        each.server.server_close()
