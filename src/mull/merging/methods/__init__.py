"""The ways to combine checkpoints, one per file: `METHODS` has each under its name.

A new method is a new file here with a `Method` in it. It is a frozen dataclass of its parameters and has one pure
function, `operation`, that turns what it measured of a tensor, if it does, into an `Operation`. None of these files
imports torch on top.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from mull.merging.methods.base import METHODS, Method, make

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["METHODS", "Method", "make"]
