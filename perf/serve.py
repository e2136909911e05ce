"""A server under load: many streams of random λ at the same time, some of which leave early, bad requests among them.

    python perf/serve.py [--streams 256] [--seconds 300] [--checked 100] [--url http://127.0.0.1:8000]

Starts `mull serve` with the built-in pair, or takes the server at `--url` (a proxy, or vLLM), and asks it from this
process, on the same cores. Every prompt has a number of its own, so that no two responses belong to the same prompt.
Fails unless

- every stream that was not left ends with its finish reason, usage and `[DONE]`, under the model's name it asked for;
- the texts of `--checked` of them are those that the same requests get alone afterwards, without a stream;
- every bad request gets its 4xx;
- a server that it started has in the last fifth of the time a mean resident memory within 5 % of that in the second.

Printed are tokens per second, and mean time to the first token and between tokens by the server's own metrics, beside
the same for requests that all have λ = 0, which take turns with the others and as much time again. (Rows of λ = 0 cost
two models, too: the ratio shows what mixing λ costs, not what a plain model does.)

With `--peer-python PYTHON`, of an environment with `transformers[serving]`, or `--peer URL` of a server that has the
built-in Instruct checkpoint, the load is followed by the same `--peer-streams` to that server and to `mull serve` in
turns, `--peer-seconds` each, timed by the client (perf/peer.py). `--peer-option=--continuous-batching` is passed on to
`transformers serve`; repeatable.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import peer
from prometheus_client.parser import text_string_to_metric_families

LEAVES, BAD = 0.01, 0.02
"""Shares of requests that leave before their end, and of requests that are wrong."""
TOKENS = 200
TURNS = 5
"""Random λ and λ = 0 take turns, so that other load affects both."""
WRONG: tuple[bytes | dict[str, Any], ...] = (
    b"{", b"[]", b"\xff\xfe", {"model": "mull"}, {"model": "other", "messages": [{"role": "user", "content": "1"}]},
    {"model": "mull@2", "messages": [{"role": "user", "content": "1"}]},
    {"model": "mull", "messages": [{"role": "user", "content": "1"}], "lambda": "much"},
    {"model": "mull", "messages": [{"role": "user", "content": "1"}], "tools": [{}]},
    {"model": "mull", "messages": [{"role": "user", "content": "1"}], "temperature": -1},
    {"model": "mull", "messages": [{"role": "user", "content": "9" * 20_000}]},
)  # fmt: skip


@dataclass
class Load:
    """What one phase sent and got."""

    texts: dict[int, tuple[dict[str, Any], str]] = field(default_factory=dict)
    """By the prompt's number: the body, and the text of its stream."""
    wrong: list[str] = field(default_factory=list)
    left: int = 0
    refused: int = 0
    seconds: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)
    """How much the server's metrics grew."""

    def rates(self) -> dict[str, float]:
        def mean(name: str) -> float:
            return self.figures[f"{name}_sum"] / self.figures[f"{name}_count"]

        return {
            "tokens/s": self.figures["mull_generated_tokens_total"] / self.seconds,
            "first token": mean("mull_time_to_first_token_seconds"),
            "between tokens": mean("mull_inter_token_seconds"),
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--checked", type=int, default=100)
    parser.add_argument("--url", help="of a server of the built-in pair under the name mull, without /v1")
    parser.add_argument("--peer-python", metavar="PYTHON")
    parser.add_argument("--peer", metavar="URL")
    parser.add_argument("--peer-option", action="append", default=[])
    parser.add_argument("--peer-streams", type=int, default=16)
    parser.add_argument("--peer-seconds", type=float, default=60)
    arguments = parser.parse_args()
    if arguments.url:
        return asyncio.run(measure(arguments.url, None, time.perf_counter(), arguments))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "mull.cli.main", "serve", "--port", str(port), "--lambda", "0.5"]
    began = time.perf_counter()
    server = subprocess.Popen([*command, "--waiting", str(2 * arguments.streams)], stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        sound = asyncio.run(measure(url, server, began, arguments))
        if arguments.peer_python or arguments.peer:
            found = peer.transformers_serve(arguments.peer_python, *arguments.peer_option)
            with nullcontext(arguments.peer) if arguments.peer else found as other:
                load = {"streams": arguments.peer_streams, "seconds": arguments.peer_seconds}
                sound |= not asyncio.run(peer.compare(url, other, **load, tokens=TOKENS, turns=2))
        return sound
    finally:
        server.terminate()
        server.wait()


async def measure(url: str, server: subprocess.Popen[bytes] | None, began: float, arguments: argparse.Namespace) -> int:
    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(base_url=url, timeout=600, limits=limits) as client:
        while True:
            try:
                await client.get("/health")
                break
            except httpx2.TransportError:
                assert server is not None and server.poll() is None, "the server did not start"
                await asyncio.sleep(0.1)
        started = time.perf_counter() - began
        await alone(client, body_of(0, 0.5, random.Random(0)))
        print(f"first response {time.perf_counter() - began:.1f} s after the start, ready after {started:.1f} s")
        memory: list[float] = []
        watching = asyncio.create_task(watch(server.pid, memory)) if server else None
        mixed, plain = Load(), Load()
        numbers = itertools.count(1)
        for _ in range(TURNS):
            await phase(client, mixed, numbers, arguments, lam=None)
            await phase(client, plain, numbers, arguments, lam=0.0)
        if watching:
            watching.cancel()
        same = await compare(client, mixed, arguments.checked)
    steady = True
    print(
        f"{arguments.streams} streams, {arguments.seconds:.0f} s: {len(mixed.texts):,} responses, {mixed.left:,} left, "
        f"{mixed.refused:,} bad requests refused, {len(mixed.wrong):,} wrong"
    )
    print(f"texts equal to those asked alone: {same:,} of {min(arguments.checked, len(mixed.texts)):,}")
    if server:
        fifth = max(1, len(memory) // 5)
        early, late = (sum(part) / len(part) for part in (memory[fifth : 2 * fifth], memory[-fifth:]))
        print(f"resident memory: {early / 1e6:.0f} MB in the second fifth, {late / 1e6:.0f} MB in the last")
        steady = abs(late / early - 1) <= 0.05
    for name, unit in (("tokens/s", ""), ("first token", " s"), ("between tokens", " s")) if server else ():
        ours, others = mixed.rates()[name], plain.rates()[name]
        print(f"{name}: {ours:.4g}{unit}, all at λ = 0 {others:.4g}{unit}, ratio {ours / others:.2f}")
    for each in (mixed.wrong + plain.wrong)[:10]:
        print("wrong:", each)
    sound = not mixed.wrong + plain.wrong and same == min(arguments.checked, len(mixed.texts)) > 0
    return 0 if sound and steady else 1


async def phase(
    client: httpx2.AsyncClient, load: Load, numbers: Iterator[int], arguments: argparse.Namespace, lam: float | None
) -> None:
    """Streams for a turn, at random λ or at `lam`."""
    before, began = await figures_of(client), time.perf_counter()
    end = began + arguments.seconds / TURNS
    await asyncio.gather(*(stream(client, load, numbers, end, lam) for _ in range(arguments.streams)))
    load.seconds += time.perf_counter() - began
    for name, value in (await figures_of(client)).items():
        load.figures[name] = load.figures.get(name, 0.0) + value - before.get(name, 0.0)


async def stream(client: httpx2.AsyncClient, load: Load, numbers: Iterator[int], end: float, lam: float | None) -> None:
    """One request after the other until `end`."""
    while time.perf_counter() < end:
        number = next(numbers)
        drawn = random.Random(number)
        try:
            if drawn.random() < BAD:
                await refused(client, load, drawn.choice(WRONG))
            else:
                own = drawn.choice((0.0, 1.0, round(drawn.random(), 3))) if lam is None else lam
                leave = drawn.randrange(1, 20) if drawn.random() < LEAVES else None
                await read(client, load, number, body_of(number, own, drawn), leave)
        except (httpx2.TransportError, KeyError, ValueError) as error:
            load.wrong.append(f"request {number}: {error!r}")


def body_of(number: int, lam: float, drawn: random.Random) -> dict[str, Any]:
    digits = " ".join(str(drawn.randrange(10)) for _ in range(drawn.randrange(3, 9)))
    question = f"{number:07d}: What is the sum of {digits}?"
    return {
        "model": f"mull@{lam:g}", "messages": [{"role": "user", "content": question}], "seed": number,
        "max_tokens": TOKENS, "temperature": drawn.choice((0, 0.6, 1)),
    }  # fmt: skip


async def read(client: httpx2.AsyncClient, load: Load, number: int, body: dict[str, Any], leave: int | None) -> None:
    """One stream; `leave`: after so many chunks."""
    text, finish, usage, done, ids, models, chunks, corrected = "", None, None, False, set(), set(), 0, False
    asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
    async with client.stream("POST", "/v1/chat/completions", json=asked) as reply:
        if reply.status_code != 200:
            load.wrong.append(f"request {number}: status {reply.status_code}")
            return
        async for line in reply.aiter_lines():
            if not line.startswith("data: "):
                continue
            chunks += 1
            if chunks == leave:
                load.left += 1
                return
            if line == "data: [DONE]":
                done = True
                continue
            chunk = json.loads(line[6:])
            ids.add(chunk["id"])
            models.add(chunk["model"])
            usage = chunk.get("usage") or usage
            corrected |= chunk.get("mull", {}).get("corrected", False)
            for choice in chunk["choices"]:
                finish = choice["finish_reason"] or finish
                text += (choice["delta"].get("reasoning") or "") + (choice["delta"].get("content") or "")
    if not (done and finish and usage and len(ids) == 1 and models == {body["model"]}):
        load.wrong.append(f"request {number}: done {done}, finish {finish}, ids {ids}, models {models}")
        return
    if not corrected:  # such a stream tells its answer twice
        load.texts[number] = (body, text)


async def refused(client: httpx2.AsyncClient, load: Load, body: bytes | dict[str, Any]) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = await client.post("/v1/chat/completions", content=content)
    load.refused += 1
    if not 400 <= reply.status_code < 500 or "error" not in reply.json():
        load.wrong.append(f"bad request {content[:80]!r}: status {reply.status_code}")


async def alone(client: httpx2.AsyncClient, body: dict[str, Any]) -> str:
    message = (await client.post("/v1/chat/completions", json=body)).json()["choices"][0]["message"]
    return (message["reasoning"] or "") + (message["content"] or "")


async def compare(client: httpx2.AsyncClient, load: Load, count: int) -> int:
    """How many of some texts are those of the same requests alone."""
    chosen = random.Random(0).sample(sorted(load.texts), min(count, len(load.texts)))
    same = 0
    for number in chosen:
        body, text = load.texts[number]
        found = await alone(client, body)
        same += found == text
        if found != text:
            load.wrong.append(f"request {number} at {body['model']}: {text[-60:]!r}, alone {found[-60:]!r}")
    return same


async def figures_of(client: httpx2.AsyncClient) -> dict[str, float]:
    """The server's metrics, summed over their labels."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families((await client.get("/metrics")).text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


async def watch(pid: int, memory: list[float]) -> None:
    """Notes the resident memory of a process, in bytes, each second."""
    while True:
        status = Path(f"/proc/{pid}/status").read_text()
        memory.append(1024 * float(status.partition("VmRSS:")[2].split()[0]))
        await asyncio.sleep(1)


if __name__ == "__main__":
    sys.exit(main())
