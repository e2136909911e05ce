"""What differs between releases of transformers in a forward pass: the cache's name, and attention that caps scores."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


def cache_name(model: Callable[..., Any]) -> str:
    """The name of `model`'s argument that takes a cache, and of the cache in its output.

    "past_key_values", and from 5.24 on "cache".
    """
    parameters = inspect.signature(getattr(model, "forward", model)).parameters
    return "cache" if "cache" in parameters else "past_key_values"


def own_attention(model: Any) -> str:
    """The attention implementation of transformers that computes what the model's config says.

    Before 5.21 "sdpa" leaves out the capping of scores (Gemma 2) without a word.
    """
    capped = getattr(model.config.get_text_config(), "attn_logit_softcapping", None) is not None
    return "sdpa" if model._supports_sdpa and not capped else "eager"
