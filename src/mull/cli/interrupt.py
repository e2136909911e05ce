"""Ctrl-C that is never lost.

Python raises KeyboardInterrupt wherever the program happens to be; inside an import or a callback of some library it
can be swallowed or turned into another error. So it is also remembered, and long work asks for it at every step.
"""

from __future__ import annotations

import signal
from types import FrameType

_seen = False


def watch() -> None:
    """Remember Ctrl-C from now on (main thread only)."""
    signal.signal(signal.SIGINT, _note)


def seen() -> bool:
    """Whether Ctrl-C was pressed."""
    return _seen


def check() -> None:
    """Raise KeyboardInterrupt if Ctrl-C was pressed."""
    if _seen:
        raise KeyboardInterrupt


def _note(number: int, frame: FrameType | None) -> None:
    global _seen
    _seen = True
    raise KeyboardInterrupt
