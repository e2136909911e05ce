"""Responses token by token, for requests that arrive at any time: what a server or a notebook generates with.

One thread owns the batch. Requests join and leave it between two tokens, in the order in which they came; nothing is
forked, and an error ends the responses that were being decoded, not the thread. Knows no HTTP.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

from mull.engines.base import Completion, Request
from mull.engines.local.decoding.rows import Finished, Lookahead
from mull.engines.local.decoding.sampler import Alternatives
from mull.engines.local.engine import LocalEngine
from mull.engines.local.streaming.thought import Piece
from mull.errors import MullError
from mull.thinking import Split

_T = TypeVar("_T")


class Token(NamedTuple):
    """One generated token."""

    id: int
    logprob: float
    """Natural log of its probability under the model's own distribution."""
    pieces: tuple[Piece, ...] = ()
    """The text that is certain with this token, thought and answer apart; empty while text is held back."""
    alternatives: Alternatives = ()
    """The likeliest tokens in its place, if they were asked for."""
    text: str = ""
    """What is certain of the text with this token, delimiters included."""


class Ended(NamedTuple):
    """The end of a response: finished, cancelled (None) or broken off by an error (None and the error)."""

    finished: Completion | None
    """The whole response, as `LocalEngine.generate` gives it; its text is cut before a stop string."""
    error: MullError | None = None
    pieces: tuple[Piece, ...] = ()
    """Text that was held back until the end."""
    split: Split | None = None
    """Thought and answer of the whole response."""
    corrected: bool = False
    """Whether pieces came as thought that are answer, or the other way round: `split` tells what holds."""
    stop: str | None = None
    """The stop string that ended the response."""
    reasoning_tokens: int = 0
    """Tokens of the thought, its delimiters not included."""
    text: str = ""
    """The rest of the text, delimiters included."""
    cached_tokens: int = 0
    """Tokens of the prompt that were not computed again."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a response shall be read as."""

    stop: tuple[str, ...] = ()
    """Strings that end the response, at the token that completes one, in thought as in answer. The text ends before
    it."""
    alternatives: int = 0
    """How many of the likeliest tokens to tell of in place of each token."""
    hold: bool = False
    """Whether to give out no piece of a thought that the prompt opened until it is closed: a response without any
    thought is then never taken for one."""
    direct: bool = False
    """Whether to take a response whose prompt opened a thought for an answer without one, until it is closed."""

    def __post_init__(self) -> None:
        if not all(self.stop) or len(self.stop) > MOST_STOPS:
            raise MullError(f"there may be {MOST_STOPS} stop strings at most, and none may be empty")
        if not 0 <= self.alternatives <= MOST_ALTERNATIVES:
            raise MullError(f"alternatives must be from 0 to {MOST_ALTERNATIVES}, got {self.alternatives}")


MOST_STOPS = 16
MOST_ALTERNATIVES = 20
PLAIN = Wanted()


class _Call(NamedTuple):
    """Work for the engine's thread."""

    work: Callable[[], Any]
    future: Future[Any]

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self.future.set_result(self.work())
        except Exception as error:
            self.future.set_exception(error)


class Stream:
    """One response under way. `on_event` is called in the engine's thread with each `Token` and, last, an `Ended`."""

    def __init__(
        self, engine: LocalEngine, request: Request, on_event: Callable[[Token | Ended], Any], wanted: Wanted
    ) -> None:
        self.request, self.on_event, self.wanted = request, on_event, wanted
        self._engine = engine
        self._reader = engine.prompts.reader(request, wanted.stop, hold=wanted.hold, direct=wanted.direct)
        self._sent = 0
        """Tokens passed on so far. A row that is sent back for lack of memory repeats them; each is passed on once."""
        self.over = False
        """Whether the row is not to go on: at a stop string, or since `on_event` has failed."""
        self._failure: Exception | None = None

    def token(self, before: int, token: int, logprob: float, alternatives: Alternatives) -> None:
        """Passes on the token that comes after `before` others."""
        if before != self._sent or self.over:
            return
        self._sent += 1
        try:
            pieces = self._reader.push(token)
            self.over = self._reader.stopped is not None
            self.on_event(Token(token, logprob, pieces, alternatives, self._reader.certain))
        except Exception as error:  # mostly of the receiver: other responses must not suffer
            self._failure, self.over = error, True

    def end(self, row: Finished | None, error: MullError | None = None) -> None:
        """Passes on the end: of a finished `row`, or without one."""
        event = Ended(None, error)
        try:
            if row is not None and self._failure is None:
                event = self._ended(row)
        except Exception as failure:
            self._failure = failure
        if self._failure is not None:
            what = f"reading or receiving the response to request {self.request.id!r} failed: {self._failure!r}"
            event = Ended(None, MullError(what, "Send the request again"))
        with suppress(Exception):  # a receiver that fails again
            self.on_event(event)

    def _ended(self, row: Finished) -> Ended:
        reader, prompts, ids = self._reader, self._engine.prompts, tuple(row.tokens.tolist())
        parted = reader.finish(prompts.text(ids), finished=row.stopped)
        if reader.stopped is None:
            completion = self._engine.completion(row)
        else:
            completion = self._engine.completion(replace(row, stopped=True), reader.text)
        tokens = prompts.reasoning_tokens(ids, completion.text, parted.split)
        return Ended(completion, None, *parted, reader.stopped, tokens, reader.certain, row.cached)


class Streams:
    """A long-lived generator over a `LocalEngine`; use it as a context, or `close` it. All methods may be called from
    any thread."""

    def __init__(self, engine: LocalEngine, *, most_waiting: int = 1024, prefix_bytes: int | None = None) -> None:
        """`most_waiting`: more requests than this are refused until some are done. `prefix_bytes`: the most memory that
        keeps texts at their λ for prompts that begin as they do, as the turns of a conversation; 0: none; None: a
        quarter of the memory for keys and values."""
        self._engine, self._most_waiting, self._prefix_bytes = engine, most_waiting, prefix_bytes
        self._commands: queue.SimpleQueue[tuple[str, Stream | _Call | None]] = queue.SimpleQueue()
        self._streams: dict[int, Stream] = {}
        self._begin()
        self._capacity = self._loop.capacity
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

    def check(self, request: Request) -> Request:
        """`request`, with as many `max_tokens` as there is memory for. Raises `MullError` for one that cannot be
        answered."""
        self._engine.check(request)
        length, sampling = len(request.prompt_ids), request.sampling
        if length >= self._capacity:
            raise MullError(
                f"the prompt of request {request.id!r} has {length:,} tokens, and there is memory for "
                f"{self._capacity:,} with the response",
                "Shorten the prompt, or free memory",
            )
        limit = min(sampling.max_tokens, self._capacity - length)
        return replace(request, sampling=replace(sampling, max_tokens=limit))

    def submit(self, request: Request, on_event: Callable[[Token | Ended], Any], wanted: Wanted = PLAIN) -> Stream:
        """Starts a response; returns at once. If `on_event` raises, its response is ended, and no other.

        Raises `MullError` for a request that the engine cannot answer, if too many are under way, and after `close`.
        """
        stream = Stream(self._engine, self.check(request), on_event, wanted)
        with self._lock:
            if self._closed:
                raise MullError("the engine is closed")
            if self._count >= self._most_waiting:
                raise MullError(f"{self._count:,} responses are under way", "Try again later")
            self._count += 1
            self._commands.put(("add", stream))
        return stream

    def cancel(self, stream: Stream) -> None:
        """Ends a response before its next token; its row is free for another. Does nothing if it has ended."""
        self._commands.put(("cancel", stream))

    def tokens(self, request: Request, wanted: Wanted = PLAIN) -> Iterator[Token | Ended]:
        """The events of one response, as they come. Dropping the iterator cancels the response."""
        events: queue.SimpleQueue[Token | Ended] = queue.SimpleQueue()
        stream = self.submit(request, events.put, wanted)
        ended = False
        try:
            while not ended:
                event = events.get()
                ended = isinstance(event, Ended)
                yield event
        finally:
            if not ended:
                self.cancel(stream)

    async def events(self, request: Request, wanted: Wanted = PLAIN) -> AsyncIterator[Token | Ended]:
        """The same for an event loop. Cancelling the task that iterates cancels the response."""
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Token | Ended] = asyncio.Queue()

        def put(event: Token | Ended) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        stream = self.submit(request, put, wanted)
        ended = False
        try:
            while not ended:
                event = await events.get()
                ended = isinstance(event, Ended)
                yield event
        finally:
            if not ended:
                self.cancel(stream)

    def call(self, work: Callable[[], _T]) -> Future[_T]:
        """Runs `work` in the engine's thread between two tokens: other uses of the model must not be at the same time.
        Raises `MullError` after `close`; what `work` raises is in the future."""
        future: Future[_T] = Future()
        with self._lock:
            if self._closed:
                raise MullError("the engine is closed")
            self._commands.put(("call", _Call(work, future)))
        return future

    def close(self) -> None:
        """Ends all responses under way as cancelled, and the thread."""
        with self._lock:
            self._closed = True
            self._commands.put(("close", None))
        if threading.current_thread() is not self._thread:  # a receiver of events may close, too
            self._thread.join()

    def _begin(self) -> None:
        """An empty batch."""

        def alternatives(request: Request) -> int:
            return self._streams[id(request)].wanted.alternatives

        def tell(request: Request, *token: Any) -> None:
            self._streams[id(request)].token(*token)

        self._loop = self._engine.row_loop(on_token=tell, alternatives_of=alternatives, prefix_bytes=self._prefix_bytes)
        self._waiting = Lookahead(())

    def _run(self) -> None:
        while self._take_commands():
            try:
                finished = self._loop.advance(self._waiting)
            except MullError as error:
                self._fail(error)
            except Exception as error:  # whatever it is, those who wait must hear of it
                self._fail(MullError(f"the engine failed: {error}", "Send the request again"))
            else:
                for row in finished:
                    self._end(self._streams[id(row.request)], row)
                for stream in [stream for stream in self._streams.values() if stream.over]:
                    self._end(stream, self._loop.cancel(stream.request))

    def _take_commands(self) -> bool:
        """Waits for a command if there is nothing to decode. False at the end."""
        block = not self._loop.busy(self._waiting)
        while True:
            try:
                what, stream = self._commands.get(block)
            except queue.Empty:
                return True
            block = False
            if isinstance(stream, _Call):
                stream.run()
                block = not self._loop.busy(self._waiting)
                continue
            if what == "close":
                for open_stream in list(self._streams.values()):
                    self._end(open_stream, None)
                return False  # the last command: `close` comes after all others
            assert stream is not None
            if what == "add":
                self._streams[id(stream.request)] = stream
                self._waiting.add(stream.request)
            elif self._streams.get(id(stream.request)) is stream:
                if not self._waiting.remove(stream.request):
                    self._loop.cancel(stream.request)
                self._end(stream, None)

    def _fail(self, error: MullError) -> None:
        """Ends the responses that were being decoded, with `error`, and begins anew with those that wait.

        If all were waiting, they are ended, too: their turn would bring the same error again.
        """
        waiting = [stream for stream in self._streams.values() if self._waiting.remove(stream.request)]
        decoded = [stream for stream in self._streams.values() if stream not in waiting]
        self._begin()
        for stream in decoded or waiting:
            self._end(stream, None, error)
        for stream in waiting if decoded else ():
            self._waiting.add(stream.request)

    def _end(self, stream: Stream, row: Finished | None, error: MullError | None = None) -> None:
        del self._streams[id(stream.request)]
        with self._lock:
            self._count -= 1
        stream.end(row, error)
