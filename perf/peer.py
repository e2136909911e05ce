"""The same streams to `transformers serve` and to `mull serve`, timed by the client. Part of perf/serve.py.

`transformers serve` has one plain model, the built-in Instruct checkpoint; `mull serve` has two and a λ per request.
The servers take turns, and both answer the same questions greedily. Only chunks with text count as arrivals of tokens.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2

from mull.tiny import checkpoint_folder

MODEL = str(checkpoint_folder("instruct"))


@dataclass
class Timed:
    """What a server's streams took."""

    tokens: int = 0
    seconds: float = 0.0
    responses: int = 0
    first: list[float] = field(default_factory=list)
    """Seconds to the first text of each response."""
    between: list[float] = field(default_factory=list)
    """Mean seconds between two tokens of each response."""
    failed: list[str] = field(default_factory=list)

    def line(self, name: str) -> str:
        def mean(values: list[float]) -> float:
            return sum(values) / len(values) if values else float("nan")

        found = f"{name}: {self.responses:,} responses, {self.tokens / self.seconds:.4g} tokens/s, "
        found += f"first token {mean(self.first):.4g} s, between tokens {mean(self.between):.4g} s"
        return found + (f", {len(self.failed):,} failed, as {self.failed[0]}" if self.failed else "")


@contextmanager
def transformers_serve(python: str, *options: str) -> Iterator[str]:
    """The address of a `transformers serve` of the environment of `python`, with the model loaded."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    command = [python, "-m", "transformers.cli.transformers", "serve", MODEL, "--host", "127.0.0.1", "--port", port]
    command += ["--device", "cpu", "--dtype", "float32", *options]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(command, env={**os.environ, "HF_HUB_OFFLINE": "1"}, **quiet)
    try:
        while True:
            assert server.poll() is None, "transformers serve did not start"
            try:
                httpx2.get(f"http://127.0.0.1:{port}/health").raise_for_status()
                break
            except httpx2.HTTPError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


async def compare(mull: str, peer: str, *, streams: int, seconds: float, tokens: int, turns: int) -> bool:
    """Prints how both servers did; each has `seconds` in all. Whether no stream failed."""
    plans = {"transformers serve, one model": peer, "mull serve, λ = 0": mull, "mull serve, random λ": mull}
    found = {name: Timed() for name in plans}
    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(timeout=600, limits=limits) as client:
        for turn in range(turns):
            for name, address in plans.items():
                began = time.perf_counter()
                end = began + seconds / turns

                async def work(seed: str, name: str = name, address: str = address, end: float = end) -> None:
                    drawn = random.Random(seed)
                    while time.perf_counter() < end:
                        lam = round(drawn.random(), 3) if "random" in name else 0
                        model = MODEL if address == peer else f"mull@{lam:g}"
                        digits = " ".join(str(drawn.randrange(10)) for _ in range(drawn.randrange(3, 9)))
                        body = {
                            "model": model, "max_tokens": tokens, "temperature": 0,
                            "messages": [{"role": "user", "content": f"What is the sum of {digits}?"}],
                        }  # fmt: skip
                        await _read(client, address, body, found[name])

                await asyncio.gather(*(work(f"{turn}/{i}") for i in range(streams)))
                found[name].seconds += time.perf_counter() - began
    for name, timed in found.items():
        print(timed.line(name))
    return not any(timed.failed for timed in found.values())


async def _read(client: httpx2.AsyncClient, address: str, body: dict[str, Any], timed: Timed) -> None:
    """One stream, noted in `timed`."""
    asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
    began, times, usage = time.perf_counter(), [], None
    try:
        async with client.stream("POST", f"{address}/v1/chat/completions", json=asked) as reply:
            if reply.status_code != 200:
                timed.failed.append(f"status {reply.status_code}")
                await asyncio.sleep(0.1)
                return
            async for line in reply.aiter_lines():
                if line.startswith("data: {"):
                    chunk = json.loads(line.removeprefix("data: "))
                    deltas = [choice["delta"] for choice in chunk["choices"]]
                    if any(delta.get("content") or delta.get("reasoning") for delta in deltas):
                        times.append(time.perf_counter())
                    usage = chunk.get("usage") or usage
    except httpx2.TransportError as error:
        timed.failed.append(repr(error))
        return
    count = usage["completion_tokens"] if usage else len(times)
    if not times or not count:
        timed.failed.append("a stream without text")
        return
    timed.responses += 1
    timed.tokens += count
    timed.first.append(times[0] - began)
    if count > 1:
        timed.between.append((times[-1] - times[0]) / (count - 1))
