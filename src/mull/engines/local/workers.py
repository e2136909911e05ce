"""Several processes that decode side by side, for models too small to keep more than one core busy.

Each worker is forked when a run begins, so it sees the weights of that moment without a copy, and runs its own
`RowLoop` on one thread. Requests are dealt out as rows finish. Only where `fork` is safe: Linux, CPU tensors.
"""

from __future__ import annotations

import multiprocessing
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from mull.engines.local.loop import RowLoop
from mull.engines.local.rows import Finished, Lookahead
from mull.errors import MullError

AVAILABLE = sys.platform == "linux"


def run_in_workers(make_loop: Callable[[], RowLoop], requests: Lookahead, processes: int) -> Iterator[Finished]:
    """Rows of `requests` in the order in which they finish, decoded by `processes` forked workers.

    Raises what a worker raised, and `MullError` when one dies. Dropping the iterator ends the workers.
    """
    context = multiprocessing.get_context("fork")
    workers: dict[Connection, BaseProcess] = {}
    dealt: dict[Connection, int] = {}
    try:
        for _ in range(processes):
            ours, theirs = context.Pipe()
            worker = context.Process(target=_work, args=(theirs, make_loop, [*workers, ours]), daemon=True)
            worker.start()
            theirs.close()
            workers[ours], dealt[ours] = worker, 0
        # Some rows more than fit wait in the worker, so that it never waits for us.
        most = make_loop().batch * 5 // 4
        while True:
            while requests and min(dealt.values()) < most:
                least = min(dealt, key=lambda end: dealt[end])
                least.send(requests.pop())
                dealt[least] += 1
            if not any(dealt.values()):
                return
            for end in wait([end for end in dealt if dealt[end]]):
                assert isinstance(end, Connection)
                finished = _receive(end, workers[end])
                dealt[end] -= len(finished)
                yield from finished
    finally:
        for worker in workers.values():
            worker.kill()
        for end, worker in workers.items():
            worker.join()
            end.close()


def _receive(end: Connection, worker: BaseProcess) -> list[Finished]:
    try:
        message = end.recv()
    except (EOFError, ConnectionError) as error:
        worker.join()
        raise MullError(
            f"a decoding process ended early (exit code {worker.exitcode})", "Less memory: give a smaller batch_size"
        ) from error
    if isinstance(message, BaseException):
        raise message
    return message


def _work(connection: Connection, make_loop: Callable[[], RowLoop], foreign: list[Connection]) -> None:
    """A worker's life: rows from the connection, finished rows back."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; it ends us
    for end in foreign:
        end.close()
    torch.set_num_threads(1)
    source = _Inbox(connection)
    try:
        loop = make_loop()
        while source.wait():
            for finished in loop.steps(source):
                connection.send(finished)
    except (EOFError, ConnectionError):
        return
    except BaseException as error:
        connection.send(error)


class _Inbox(Lookahead):
    """Requests that have arrived; a thread empties the pipe, so that neither side blocks the other."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(())
        self._ended = False
        self._arrived: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=self._drain, args=(connection,), daemon=True).start()

    def wait(self) -> bool:
        """Blocks until a request is there; False when none will come."""
        while not self._ahead and not self._ended:
            self._take()
        return bool(self._ahead)

    def at_least(self, count: int) -> bool:
        while len(self._ahead) < count and not self._ended and not self._arrived.empty():
            self._take()
        return len(self._ahead) >= count

    def _take(self) -> None:
        request = self._arrived.get()
        if request is None:
            self._ended = True
        else:
            self._ahead.append(request)

    def _drain(self, connection: Connection) -> None:
        try:
            while True:
                self._arrived.put(connection.recv())
        except (EOFError, OSError):
            self._arrived.put(None)
