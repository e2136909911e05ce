"""What transformers calls the key/value cache: `past_key_values`, and from 5.24 on `cache`, in calls and in outputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


def cache_name(model: Callable[..., Any]) -> str:
    """The name of `model`'s argument that takes a cache, and of the cache in its output."""
    parameters = inspect.signature(getattr(model, "forward", model)).parameters
    return "cache" if "cache" in parameters else "past_key_values"
