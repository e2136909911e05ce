"""Checks whether the packages of the optional extra `bench` are installed, and in which versions."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from mull.errors import MullError


def need(*modules: str, what: str) -> None:
    """Raise `MullError` unless all `modules` are installed; imports none of them. `what` needs them."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise MullError(f"{what} needs {', '.join(missing)}", "install the extra: pip install 'mull[bench]'")


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Package name → installed version, or "absent"."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found
