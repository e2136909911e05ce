"""One HTTP request and the body that answers it, bounded in bytes and in time, whatever a server sends.

Follows no redirection: the key goes to the server that it is for.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, NamedTuple

import httpx2

from mull.engines.remote.events import StreamedReply
from mull.engines.remote.refusals import REDIRECTIONS, Problem, TemporaryError, clipped, error_in, retry_after

LARGEST_BODY = 8 << 20
"""Bytes of a reply, unpacked. A response of 81,920 tokens, sent twice, takes less than 2 MiB. Parsing
can take fifty times the bytes of a body made for that."""
LARGEST_STREAM = 256 << 20
"""Bytes of a stream, unpacked: 3 kB for each of 81,920 tokens."""
SHOWN = 4000
"""Characters of a body that is no JSON, for the error message."""


class Answer(NamedTuple):
    """What a server answered."""

    status: int
    headers: httpx2.Headers
    data: Any
    """What the JSON or the stream holds; None if the body is neither."""
    text: str
    """The beginning of the body; empty for a stream."""

    @property
    def succeeded(self) -> bool:
        return 200 <= self.status < 300


async def fetch(http: httpx2.AsyncClient, method: str, url: str, body: Any, seconds: float) -> Answer:
    """The answer to one request, `body` being its JSON.

    Raises:
        TimeoutError: the answer was not whole after `seconds`.
        TemporaryError: the body is too large, or a stream that broke off.
        ErrorReply: there is an error among the events of a stream.
        httpx2.RequestError: the connection failed.
    """
    async with asyncio.timeout(seconds), http.stream(method, url, json=body) as response:
        if "," in response.headers.get("content-encoding", ""):
            raise TemporaryError("a reply that is packed several times")
        if response.is_success and "event-stream" in response.headers.get("content-type", ""):
            return Answer(response.status_code, response.headers, await _streamed(response), "")
        found = bytearray()
        async for chunk in response.aiter_bytes():
            found += chunk
            if len(found) > LARGEST_BODY:
                raise TemporaryError(f"a reply of more than {LARGEST_BODY >> 20} MiB")
    text = found[:SHOWN].decode(errors="replace")
    return Answer(response.status_code, response.headers, _parsed(bytes(found), response.is_success), text)


def problem_of(answer: Answer) -> Problem | None:
    """The error of an answer: one in its JSON, or its status with the text that comes with it."""
    found, headers = error_in(answer.data), answer.headers
    wait = retry_after(headers.get("retry-after"))
    if answer.succeeded:
        return found and found._replace(wait=found.wait if wait is None else wait)
    told = found.message if found else "" if "html" in headers.get("content-type", "") else clipped(answer.text)
    if answer.status in REDIRECTIONS and "location" in headers:
        told = clipped(f"it leads to {headers['location']}")
    return Problem(answer.status, told, wait=wait)


async def _streamed(response: httpx2.Response) -> Any:
    reply, size = StreamedReply(), 0
    async for chunk in response.aiter_bytes():
        size += len(chunk)
        if size > LARGEST_STREAM:
            raise TemporaryError(f"a stream of more than {LARGEST_STREAM >> 20} MiB")
        reply.feed(chunk)
        if reply.done:
            break
    return reply.whole()


def _parsed(body: bytes, success: bool) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):  # JSON's and Unicode's errors, and brackets nested too deep
        pass
    if not success or not body.lstrip().startswith((b"data:", b"event:", b":")):
        return None
    reply = StreamedReply()  # a stream under another name
    reply.feed(body)
    return reply.whole()
