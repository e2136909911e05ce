"""Which transformers models the row cache can serve, what a cached position costs, and what a failed allocation is.

Knows no requests.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel

from mull.engines.cache import RowCache, Span
from mull.errors import MullError

_PROBE = 9


@torch.inference_mode()
def check_supported(model: PreTrainedModel) -> None:
    """Compares a prefill and a decode step through the row cache with the model's own attention on a few tokens.

    Raises `MullError`, which names the model type, for a sliding window within the context, linear attention and other
    state, rotary scaling that depends on the batch's longest row, and whatever else makes the results differ.
    """
    config = model.config.get_text_config()
    kind = repr(config.model_type)
    remedy = "In-process sampling needs full attention in every layer"
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    if layers != {"full_attention"}:
        raise MullError(f"the local engine has no cache for model type {kind} with {', '.join(sorted(layers))}", remedy)
    window = getattr(config, "sliding_window", None)
    if window and getattr(config, "use_sliding_window", True) and window < config.max_position_embeddings:
        raise MullError(f"the local engine has no cache for the sliding window of model type {kind}", remedy)
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if rope in ("dynamic", "longrope"):
        raise MullError(f"model type {kind} has {rope} rope: rows of one batch would change one another", remedy)
    tokens = torch.arange(_PROBE, device=model.device).remainder(config.vocab_size)[None]
    attention = model.config._attn_implementation
    try:
        model.config._attn_implementation = "sdpa" if model._supports_sdpa else "eager"
        expected = model(input_ids=tokens, use_cache=False).logits[0, -1].float()
    finally:
        model.config._attn_implementation = attention
    try:
        found = _probe(model, tokens)
    except (NotImplementedError, TypeError, AttributeError, RuntimeError, ValueError, IndexError) as error:
        raise MullError(f"the local engine has no cache for model type {kind} ({error})", remedy) from error
    if not expected.isfinite().all():
        raise MullError("the donor's logits are not numbers", "look for NaN in its weights with `mull inspect`")
    distance = ((found - expected).norm() / expected.norm()).item()
    tolerance = 1e-3 if model.dtype == torch.float32 else 0.1
    if not distance <= tolerance:
        raise MullError(f"the local engine is wrong for model type {kind} (logits are off by {distance:.1%})", remedy)


@contextmanager
def memory_errors(what: str, remedy: str) -> Iterator[None]:
    """Turns a failed allocation, on CPU or GPU, into a `MullError` "out of memory `what`"."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch's own OutOfMemoryError is a RuntimeError
        text = str(error)
        allocator = "can't allocate memory" in text or "not enough memory" in text  # the CPU's has no type of its own
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or allocator:
            raise MullError(f"out of memory {what}", remedy) from error
        raise


def bytes_per_position(model: PreTrainedModel) -> int:
    """Bytes of keys and values that one token of one row takes in all layers, plus the largest layer's again.

    Again, because one layer is held twice while the cache changes its size (`RowCache.resize`).
    """
    cache = RowCache()
    cache.resize(1, 1)
    with torch.inference_mode():
        cache.begin_prefill(torch.zeros(1, dtype=torch.int64, device=model.device))
        token = torch.zeros(1, 1, dtype=torch.int64, device=model.device)
        model(input_ids=token, position_ids=token, past_key_values=cache, use_cache=True, logits_to_keep=1)
    layers = [sum(tensor.nbytes for tensor in layer) for layer in cache.states]
    return sum(layers) + max(layers)


def _probe(model: PreTrainedModel, tokens: torch.Tensor) -> torch.Tensor:
    """Logits `[V]` of the last of `tokens` `[1, L]`, by prefill of the others and one decode step."""
    last = tokens.shape[1] - 1
    cache = RowCache()
    cache.resize(1, 64)
    cache.begin_prefill(torch.zeros(1, dtype=torch.int64, device=model.device))
    shared: dict[str, Any] = {"past_key_values": cache, "use_cache": True, "logits_to_keep": 1}
    model(input_ids=tokens[:, :last], position_ids=torch.arange(last, device=model.device)[None], **shared)
    positions = torch.full((1,), last, dtype=torch.int64, device=model.device)
    cache.begin_decode(positions)
    mask = torch.full((1, 1, 1, 64), float("-inf"), dtype=model.dtype, device=model.device)
    mask[..., : last + 1] = 0
    output = model(
        input_ids=tokens[:, last:],
        attention_mask=mask,
        position_ids=positions[:, None],
        row_spans=[Span(0, 1, 64)],
        **shared,
    )
    if not cache.states:
        raise NotImplementedError("it does not use the cache it is given")
    return output.logits[0, -1].float()
