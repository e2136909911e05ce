"""Shows how long work goes on: in a terminal, in a notebook, or not at all."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mull.runs.sessions.observer import Observer


def observer_of(quiet: bool) -> Observer:
    """What tells the user how a call goes: nothing if `quiet`; outputs of a notebook's cell; else bars and lines on
    standard error."""
    if quiet:
        from mull.runs.sessions.observer import Observer

        return Observer()
    if in_notebook():
        from mull.api.progress.notebook import Notebook

        return Notebook()
    from mull.api.progress.console import SafeConsole
    from mull.api.progress.terminal import Terminal

    return Terminal(SafeConsole(stderr=True, width=None if sys.stderr.isatty() else 120))


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this code."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


if in_notebook():  # tqdm, which huggingface_hub imports, warns that its bars lack widgets
    warnings.filterwarnings("ignore", message="IProgress not found")
