"""The ways to combine checkpoints, one per file: `METHODS` has each under its name.

To add a method, add a file with a `Method`: a frozen dataclass of its parameters with one pure function, `operation`,
that returns the `Operation` for a tensor, using what the method measured on it, if anything. These files import torch
only inside functions, because listing the methods does not need it.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from mull.merging.methods.base import METHODS, Method, make

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["METHODS", "Method", "make"]
