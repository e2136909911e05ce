"""A refusal in one of vLLM's processes reaches the one that started vLLM, which itself says only that one failed."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mull.errors import MullError

_FILE = "MULL_VLLM_REFUSAL"
"""Environment variable: the file into which a process writes why it refuses."""


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
        os.environ[_FILE] = str(said)
        try:
            yield
        except Exception as error:
            if said.exists():
                raise MullError(*json.loads(said.read_text(encoding="utf-8"))) from error
            raise
        finally:
            del os.environ[_FILE]
