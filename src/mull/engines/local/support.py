"""Which transformers models the row cache can serve, and what a cached position costs.

Knows no requests.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel

from mull.engines.local.cache import RowCache, Span, StepMask
from mull.errors import MullError

_PROBE = 9
_WINDOW = 4
"""Sliding windows are probed at this width: past it, in as few tokens as full attention."""


@torch.inference_mode()
def check_supported(model: PreTrainedModel) -> None:
    """Compares a prefill and a decode step through the row cache with the model's own attention on a few tokens.

    Sliding windows are narrowed to `_WINDOW` tokens meanwhile, so that the few tokens reach past them. Raises
    `MullError`, which names the model type, for linear attention and other state, rotary scaling that depends on the
    batch's longest row, and whatever else makes the results differ.
    """
    config = model.config.get_text_config()
    kind = repr(config.model_type)
    remedy = "In-process sampling needs attention over a cache in every layer"
    layers = set(getattr(config, "layer_types", None) or ["full_attention"]) - {"full_attention", "sliding_attention"}
    if layers:
        raise MullError(f"the local engine has no cache for model type {kind} with {', '.join(sorted(layers))}", remedy)
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if rope in ("dynamic", "longrope"):
        raise MullError(f"model type {kind} has {rope} rope: rows of one batch would change one another", remedy)
    tokens = torch.arange(_PROBE, device=model.device).remainder(config.vocab_size)[None]
    attention = model.config._attn_implementation
    try:
        model.config._attn_implementation = "sdpa" if model._supports_sdpa else "eager"
        with _narrow(model):
            expected = model(input_ids=tokens, use_cache=False).logits[0, -1].float()
    finally:
        model.config._attn_implementation = attention
    try:
        with _narrow(model):
            found = _probe(model, tokens)
    except (NotImplementedError, TypeError, AttributeError, RuntimeError, ValueError, IndexError) as error:
        raise MullError(f"the local engine has no cache for model type {kind} ({error})", remedy) from error
    if not expected.isfinite().all():
        raise MullError("the donor's logits are not numbers", "look for NaN in its weights with `mull inspect`")
    distance = ((found - expected).norm() / expected.norm()).item()
    tolerance = 1e-3 if model.dtype == torch.float32 else 0.1
    if not distance <= tolerance:
        raise MullError(f"the local engine is wrong for model type {kind} (logits are off by {distance:.1%})", remedy)


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


@contextmanager
def _narrow(model: PreTrainedModel) -> Iterator[None]:
    """Every sliding window of the model is `_WINDOW` meanwhile: in its config and where a layer has its own."""
    holders = [model.config.get_text_config(), *model.modules()]
    windows = [(holder, holder.sliding_window) for holder in holders if getattr(holder, "sliding_window", None)]
    try:
        for holder, _ in windows:
            holder.sliding_window = _WINDOW
        yield
    finally:
        for holder, window in windows:
            holder.sliding_window = window


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
    mask = StepMask(positions, 64, model.dtype)
    output = model(
        input_ids=tokens[:, last:],
        attention_mask=mask.causal,
        position_ids=positions[:, None],
        row_spans=[Span(0, 1, 64)],
        row_mask=mask,
        **shared,
    )
    if not cache.states:
        raise NotImplementedError("it does not use the cache it is given")
    return output.logits[0, -1].float()
