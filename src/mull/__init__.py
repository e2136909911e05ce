"""mull: control how much a language model thinks, by interpolating its Instruct and Thinking weights.

    >>> import mull
    >>> pair = mull.Pair.open("path/to/instruct", "path/to/thinking")
    >>> mull.merge(pair, 0.8, out="merged")

docs/python.md shows all of it. The names below are imported when they are used, so that `import mull` is quick.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mull.api.choice import Choice
    from mull.api.merging import merge
    from mull.api.model import Model, Reply
    from mull.api.pair import Pair
    from mull.api.run import Run
    from mull.api.sweeping import choose, sweep
    from mull.engines.base import Sampling
    from mull.errors import MullError
    from mull.merging.coefficients import Coefficients
    from mull.merging.coefficients.recipe import Recipe
    from mull.runs.settings import Setting

logging.getLogger("mull").addHandler(logging.NullHandler())

__version__ = "0.1.0"
__all__ = [
    "Choice",
    "Coefficients",
    "Model",
    "MullError",
    "Pair",
    "Recipe",
    "Reply",
    "Run",
    "Sampling",
    "Setting",
    "choose",
    "merge",
    "sweep",
]
_HOMES = {
    "mull.api.choice": ("Choice",),
    "mull.api.merging": ("merge",),
    "mull.api.model": ("Model", "Reply"),
    "mull.api.pair": ("Pair",),
    "mull.api.run": ("Run",),
    "mull.api.sweeping": ("choose", "sweep"),
    "mull.engines.base": ("Sampling",),
    "mull.errors": ("MullError",),
    "mull.merging.coefficients": ("Coefficients",),
    "mull.merging.coefficients.recipe": ("Recipe",),
    "mull.runs.settings": ("Setting",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            found = globals()[name] = getattr(import_module(module), name)
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
