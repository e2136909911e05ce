"""Responses token by token, for requests that arrive at any time: what a server or a notebook generates with.

One thread owns the batch. Requests join and leave it between two tokens; nothing is forked, and an error ends the
responses under way, not the thread. Knows no HTTP.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from mull.engines.base import Request
from mull.engines.local.decoding.rows import Finished, Lookahead
from mull.engines.local.engine import LocalEngine
from mull.errors import MullError


class Token(NamedTuple):
    """One generated token."""

    id: int
    logprob: float
    """Natural log of its probability under the model's own distribution."""


class Ended(NamedTuple):
    """The end of a response: finished, cancelled (None) or broken off by an error."""

    finished: Finished | None
    error: MullError | None = None


class Stream:
    """One response under way. `on_event` is called in the engine's thread with each `Token` and, last, an `Ended`."""

    def __init__(self, request: Request, on_event: Callable[[Token | Ended], Any]) -> None:
        self.request, self.on_event = request, on_event
        self.sent = 0
        """Tokens passed on so far. A row that is sent back for lack of memory repeats them; each is passed on once."""


class Streams:
    """A long-lived generator over a `LocalEngine`; use it as a context, or `close` it."""

    def __init__(self, engine: LocalEngine, *, most_waiting: int = 1024) -> None:
        """`most_waiting`: more requests than this are refused until some are done."""
        self._engine, self._most_waiting = engine, most_waiting
        self._commands: queue.SimpleQueue[tuple[str, Stream | None]] = queue.SimpleQueue()
        self._streams: dict[int, Stream] = {}
        self._waiting = Lookahead(())
        self._loop = engine.row_loop(on_token=self._on_token)
        self._count, self._closed = 0, False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="mull-streams", daemon=True)
        self._thread.start()

    def __enter__(self) -> Streams:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def count(self) -> int:
        """Responses under way, the waiting ones included."""
        return self._count

    def submit(self, request: Request, on_event: Callable[[Token | Ended], Any]) -> Stream:
        """Starts a response; returns at once.

        Raises `MullError` for a request that the engine cannot answer, if too many are waiting, and after `close`.
        """
        self._engine.check(request)
        with self._lock:
            if self._closed:
                raise MullError("the engine is closed")
            if self._count >= self._most_waiting:
                raise MullError(f"{self._count:,} responses are under way", "Try again later")
            self._count += 1
        stream = Stream(request, on_event)
        self._commands.put(("add", stream))
        return stream

    def cancel(self, stream: Stream) -> None:
        """Ends a response before its next token; its row is free for another. Does nothing if it has ended."""
        self._commands.put(("cancel", stream))

    def tokens(self, request: Request) -> Iterator[Token | Ended]:
        """The events of one response, as they come. Dropping the iterator cancels the response."""
        events: queue.SimpleQueue[Token | Ended] = queue.SimpleQueue()
        stream = self.submit(request, events.put)
        ended = False
        try:
            while not ended:
                event = events.get()
                ended = isinstance(event, Ended)
                yield event
        finally:
            if not ended:
                self.cancel(stream)

    def close(self) -> None:
        """Ends all responses under way as cancelled, and the thread."""
        with self._lock:
            self._closed = True
        self._commands.put(("close", None))
        self._thread.join()

    def _run(self) -> None:
        while True:
            # With nothing to decode, wait for the next command.
            block = not self._loop.busy(self._waiting)
            while True:
                try:
                    what, stream = self._commands.get(block)
                except queue.Empty:
                    break
                block = False
                if what == "close":
                    for open_stream in list(self._streams.values()):
                        self._end(open_stream, Ended(None))
                    return
                assert stream is not None
                self._add(stream) if what == "add" else self._cancel(stream)
            try:
                finished = self._loop.advance(self._waiting)
            except MullError as error:
                self._fail(error)
            except (RuntimeError, MemoryError) as error:
                self._fail(MullError(f"the engine failed: {error}", "Send the request again"))
            else:
                for row in finished:
                    self._end(self._streams[id(row.request)], Ended(row))

    def _add(self, stream: Stream) -> None:
        self._streams[id(stream.request)] = stream
        self._waiting.add(stream.request)

    def _cancel(self, stream: Stream) -> None:
        if self._streams.get(id(stream.request)) is stream:
            if not self._waiting.remove(stream.request):
                self._loop.cancel(stream.request)
            self._end(stream, Ended(None))

    def _fail(self, error: MullError) -> None:
        """Ends every response with `error` and begins anew with an empty batch."""
        self._loop = self._engine.row_loop(on_token=self._on_token)
        self._waiting = Lookahead(())
        for stream in list(self._streams.values()):
            self._end(stream, Ended(None, error))

    def _on_token(self, request: Request, before: int, token: int, logprob: float) -> None:
        stream = self._streams[id(request)]
        if before == stream.sent:
            stream.sent += 1
            stream.on_event(Token(token, logprob))

    def _end(self, stream: Stream, event: Ended) -> None:
        del self._streams[id(stream.request)]
        with self._lock:
            self._count -= 1
        stream.on_event(event)
