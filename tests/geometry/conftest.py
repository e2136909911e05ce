"""The same small models as for the engines."""

from ..engines.conftest import one_thread, pairs

__all__ = ["one_thread", "pairs"]
