"""An OpenAI-compatible API in which every request chooses how much to think: FastAPI routes over an engine.

Optional: needs the extra `serve`.

Example:
    >>> import fastapi, mull.serving
    >>> app = fastapi.FastAPI()
    >>> app.include_router(mull.serving.open_router("path/to/instruct", "path/to/thinking"))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mull.errors import MullError

if TYPE_CHECKING:
    from mull.serving.opening import open_router, open_service

__all__ = ["open_router", "open_service"]


def __getattr__(name: str) -> Any:
    """What this package offers, imported when it is used: `mull chat` needs no FastAPI."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from mull.serving import opening
    except ModuleNotFoundError as error:
        raise MullError(f"serving needs {error.name}", "install it: pip install 'mull[serve]'") from None
    return getattr(opening, name)
