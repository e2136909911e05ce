"""What vLLM's processes and the one that started vLLM must know of each other, and vLLM does not tell them.

A refusal in one of them reaches their owner: vLLM says only that one failed. And they end with their owner, however
that ends: after a `kill -9` they would stay, and hold the GPU's memory.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mull.errors import MullError

_FILE = "MULL_VLLM_REFUSAL"
"""Environment variable: the file into which a process writes why it refuses."""

_OWNER = "MULL_VLLM_OWNER"
"""Environment variable: the number of the process that started vLLM."""
_SECONDS = 20.0
"""For a process to end in its own way."""


@contextmanager
def telling() -> Iterator[None]:
    """In vLLM's processes, round what may raise `MullError`."""
    try:
        yield
    except MullError as error:
        if path := os.environ.get(_FILE):
            Path(path).write_text(json.dumps([error.what, error.remedy]), encoding="utf-8")
        raise


@contextmanager
def listening() -> Iterator[None]:
    """Round the start of vLLM. Raises the `MullError` that one of its processes raised."""
    with tempfile.TemporaryDirectory(prefix="mull-") as folder:
        said = Path(folder) / "refusal"
        os.environ |= {_FILE: str(said), _OWNER: str(os.getpid())}
        try:
            yield
        except Exception as error:
            if said.exists():
                raise MullError(*json.loads(said.read_text(encoding="utf-8"))) from error
            raise
        finally:
            del os.environ[_FILE], os.environ[_OWNER]


def end_with_parent() -> None:
    """In vLLM's processes: end this one when its parent has ended, if mull's engine started vLLM."""
    owner = int(os.environ.get(_OWNER, "0"))
    if owner not in (0, os.getpid()) and not any(each.name == _OWNER for each in threading.enumerate()):
        threading.Thread(target=_watch, args=(owner, os.getppid()), name=_OWNER, daemon=True).start()


def _watch(owner: int, parent: int) -> None:
    adopted = parent == 1 != owner  # the parent had ended before this process came to look
    while not adopted and os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)
