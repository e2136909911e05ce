"""Runs code that may hang (a library, a chat template) in a child process, which answers over pipes and can be killed.

The parent writes one line of JSON and waits at most `seconds` for one line back. A child that does not answer in time
is killed, and a new one is started for the next question. The child also limits its own CPU time by a signal without a
Python handler, so that it ends even if its parent was killed or C code never returns to Python.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from mull import portable
from mull.errors import MullError

START_SECONDS = 180.0
"""Time for the child's imports, also on a busy machine."""


class Unanswered(Exception):
    """The child hung, died or failed on one question."""


class Worker:
    """The parent's side: starts `python -m MODULE` when it is first asked, and again after a failure."""

    def __init__(self, module: str, seconds: float = 30.0, arguments: Sequence[str] = ()) -> None:
        self.module = module
        self.seconds = seconds
        self.arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self._starting = False
        self._arrived: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._buffer = b""
        self._owner = os.getpid()
        self.hello: dict[str, Any] = {}
        """The first line of the child."""

    def start(self) -> dict[str, Any]:
        """Start the child, unless it is running, and return its first line.

        Raises:
            MullError: it ended or wrote nothing, for example because a library is broken.
        """
        self.launch()
        if self._starting:
            try:
                self.hello = self._receive(START_SECONDS)
            except Unanswered as error:
                remedy = f"`{' '.join(self._command)} </dev/null` shows why"
                raise MullError(f"the process of {self.module} did not start ({error})", remedy) from None
            self._starting = False
        return self.hello

    def launch(self) -> None:
        """Start the child, unless it is running, without waiting for its imports."""
        if self._owner != os.getpid() or self._process is None or self._process.poll() is not None:
            self.close()
            self._owner, self._starting = os.getpid(), True
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            self._arrived = queue.SimpleQueue()
            threading.Thread(target=_drain, args=(self._process.stdout, self._arrived), daemon=True).start()

    @property
    def _command(self) -> list[str]:
        return [sys.executable, "-m", self.module, str(self.seconds), *self.arguments]

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The child's answer to `request`.

        Raises:
            Unanswered: it hung or ended (the next request starts a new child), or its library raised an error.
        """
        self.start()
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            self.close()
            raise Unanswered(str(error)) from None
        answer = self._receive(self.seconds)
        if "error" in answer:
            raise Unanswered(answer["error"])
        return answer

    def close(self) -> None:
        """Kill the child."""
        process, self._process, self._buffer = self._process, None, b""
        if process is None or self._owner != os.getpid():
            return  # after a fork the child belongs to the process that started it
        process.kill()
        process.wait()
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    def _receive(self, seconds: float) -> dict[str, Any]:
        assert self._process is not None
        deadline = time.monotonic() + seconds
        while b"\n" not in self._buffer:
            try:
                data = self._arrived.get(timeout=max(deadline - time.monotonic(), 0))
            except queue.Empty:
                self.close()
                raise Unanswered(f"no answer within {seconds:g} s") from None
            if not data:
                code = self._process.wait()
                self.close()
                raise Unanswered(f"exit code {code}")
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return json.loads(line)


def _drain(pipe: IO[bytes], arrived: queue.SimpleQueue[bytes]) -> None:
    """Hand on what the child writes; nothing (b"") once it has ended. A thread can wait for a pipe on every system."""
    with pipe:
        while data := os.read(pipe.fileno(), 1 << 16):
            arrived.put(data)
    arrived.put(b"")


def limit_memory(more: int) -> None:
    """Allow this process `more` bytes of address space beyond what it has now, where the system can limit that."""
    resource = portable.module("resource")
    if resource is None:
        return
    with contextlib.suppress(OSError, ValueError):  # no /proc, or a lower limit already
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, hard))


def serve(begin: Callable[[], tuple[dict[str, Any], Callable[[dict[str, Any]], dict[str, Any]]]]) -> None:
    """The child's loop: `begin` imports what is needed and returns the first line and the function that answers.

    Only answers go to the pipe; what a library prints goes to stderr. An exception becomes the answer `{"error": …}`.
    Ctrl-C is ignored, because the parent handles it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)

        def send(answer: dict[str, Any]) -> None:
            answers.write(json.dumps(answer).encode() + b"\n")
            answers.flush()

        hello, handle = begin()
        send(hello)
        for line in sys.stdin.buffer:
            portable.limit_processor_time(seconds + 5)
            try:
                answer = handle(json.loads(line))
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"[:500]}
            portable.limit_processor_time(0)
            try:
                send(answer)
            except BrokenPipeError:
                return
