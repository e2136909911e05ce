"""The body of a request, checked as JSON, and work that ends when its client leaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from mull.serving.wire.errors import ApiError, bad

_Found = TypeVar("_Found")


async def body_of(request: Request, most: int) -> Any:
    """The JSON of a request. Raises `ApiError` for one that is too long or no JSON; reads no more than `most` bytes."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > most:
            raise ApiError(413, f"the body is longer than {most:,} bytes", code="body_too_large")
    try:
        text = content.decode()
        body = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_once)
        if "\\ud" in text.lower():
            json.dumps(body, ensure_ascii=False).encode()  # half of a surrogate pair is no character
    except UnicodeError:
        raise bad("the body is no UTF-8 text") from None
    except (ValueError, RecursionError):
        raise bad("the body is no JSON") from None
    return body


async def unless_gone(request: Request, work: Coroutine[Any, Any, _Found]) -> _Found:
    """What `work` gives. Raises `ClientDisconnect`, and cancels it, if the client leaves before that."""
    task, gone = asyncio.create_task(work), asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.wait({task, gone})


def _no_constant(name: str) -> None:
    raise bad(f"the body is no JSON: it holds {name}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, whose fields have one value each."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise bad("an object in the body names a field twice")
    return found


async def _gone(request: Request) -> None:
    """Until the client of a request, whose body has been read, leaves."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
