"""Several processes that decode at the same time, for models too small to use more than one core.

Each worker process is forked when a run begins, so that it shares the present weights without a copy, and runs its own
`RowLoop` on one thread. It gets further requests as its rows finish. Only where `fork` is safe: Linux, CPU tensors.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from mull.engines.local.decoding.loop import RowLoop
from mull.engines.local.decoding.rows import Finished, Lookahead
from mull.errors import MullError

AVAILABLE = sys.platform == "linux" and hasattr(os, "fork")


def run_in_workers(make_loop: Callable[[], RowLoop], requests: Lookahead, processes: int) -> Iterator[Finished]:
    """Rows of `requests` in the order in which they finish, decoded by `processes` forked workers.

    Raises what a worker raises, and `MullError` if one dies. Dropping the iterator ends the workers.
    """
    context = multiprocessing.get_context("fork")
    workers: dict[Connection, BaseProcess] = {}
    outstanding: dict[Connection, int] = {}  # requests sent to a worker, minus finished rows
    try:
        for _ in range(processes):
            parent_end, child_end = context.Pipe()
            arguments = (child_end, make_loop, [*workers, parent_end])
            worker = context.Process(target=_run_worker, args=arguments, daemon=True)
            worker.start()
            child_end.close()
            workers[parent_end], outstanding[parent_end] = worker, 0
        # A few more requests than fit into a batch, so that a worker never waits for this process.
        limit = make_loop().size * 5 // 4
        while True:
            while requests and min(outstanding.values()) < limit:
                idlest = min(outstanding, key=lambda end: outstanding[end])
                idlest.send(requests.pop())
                outstanding[idlest] += 1
            if not any(outstanding.values()):
                return
            for end in wait([end for end in outstanding if outstanding[end]]):
                assert isinstance(end, Connection)
                finished = _receive(end, workers[end])
                outstanding[end] -= len(finished)
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


def _run_worker(connection: Connection, make_loop: Callable[[], RowLoop], parent_ends: list[Connection]) -> None:
    """The main function of a worker: receives requests and sends finished rows until the connection is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C, the parent ends the workers
    for end in parent_ends:
        end.close()
    torch.set_num_threads(1)
    inbox = _Inbox(connection)
    try:
        loop = make_loop()
        while inbox.wait():
            for finished in loop.steps(inbox):
                connection.send(finished)
    except (EOFError, ConnectionError):
        return
    except BaseException as error:
        connection.send(error)


class _Inbox(Lookahead):
    """Requests that have arrived. A thread reads the pipe, so that sending never blocks the parent process."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(())
        self._ended = False
        self._arrived: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=self._drain, args=(connection,), daemon=True).start()

    def wait(self) -> bool:
        """Waits for a request; False if no more will come."""
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
