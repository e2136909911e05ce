"""Makes sure that Ctrl-C ends the program.

Python raises KeyboardInterrupt at whatever line is running. In an import or a callback of a library it may be caught or
turned into another error. So the signal is also recorded, and long work calls `check` at every step.
"""

from __future__ import annotations

import signal
from types import FrameType

_seen = False


def watch() -> None:
    """Record Ctrl-C from now on (call it in the main thread)."""
    signal.signal(signal.SIGINT, _note)


def seen() -> bool:
    """Whether Ctrl-C has been pressed."""
    return _seen


def check() -> None:
    """Raise KeyboardInterrupt if Ctrl-C was pressed."""
    if _seen:
        raise KeyboardInterrupt


def forget() -> None:
    """Go on after Ctrl-C, for verbs in which it ends a step and not the program."""
    global _seen
    _seen = False


def _note(number: int, frame: FrameType | None) -> None:
    global _seen
    _seen = True
    raise KeyboardInterrupt
