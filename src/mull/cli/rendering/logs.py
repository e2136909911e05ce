"""What the library logs, on standard error, and whether the user wants to know how work goes on."""

from __future__ import annotations

import logging
import sys

from mull.errors import MullError
from mull.escaping import visible

LOGGER = logging.getLogger("mull")


class _ToStderr(logging.Handler):
    """Writes to what is standard error at the time, so that lines come out above a bar."""

    def emit(self, record: logging.LogRecord) -> None:
        print(visible(self.format(record)), file=sys.stderr)


def show_logs(*, quiet: bool, verbose: bool) -> None:
    """Show what mull's loggers say: warnings, with `verbose` all of it, with `quiet` errors only."""
    if quiet and verbose:
        raise MullError("--quiet and --verbose contradict each other", "give one of the two")
    handler = _ToStderr()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s" if verbose else "%(message)s"))
    LOGGER.handlers = [handler]
    LOGGER.setLevel(logging.DEBUG if verbose else logging.ERROR if quiet else logging.WARNING)


def is_quiet() -> bool:
    """Whether results and errors alone are wanted."""
    return not LOGGER.isEnabledFor(logging.WARNING)


def complain(text: str) -> None:
    """Print an error as one line."""
    print(f"mull: {visible(' '.join(text.splitlines()))}", file=sys.stderr)
