"""Checks whether the row cache works for a transformers model, and measures the memory of a cached position.

Knows no requests.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel

from mull.engines.local.decoding.cache import RowCache, Span, StepMask
from mull.errors import MullError

_PROBE_TOKENS = 9
_PROBE_ROWS = 3
"""Some errors show only with several rows, at different positions."""
_PROBE_WINDOW = 4
"""Sliding windows are set to this during the test, so that `_PROBE_TOKENS` reach beyond them."""


@torch.inference_mode()
def check_supported(model: PreTrainedModel) -> None:
    """Compares a prefill and a decode step with the row cache to the model's own attention, on a few tokens.

    Raises `MullError`, which names the model type, for linear attention and other state, for rotary scaling that
    depends on the longest row of a batch, and for anything else that makes the results differ.
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
    tokens = torch.arange(_PROBE_TOKENS, device=model.device).remainder(config.vocab_size)[None]
    attention = model.config._attn_implementation
    try:
        model.config._attn_implementation = "sdpa" if model._supports_sdpa else "eager"
        with _narrow_windows(model):
            expected = model(input_ids=tokens, use_cache=False).logits[0].flip(0)[:_PROBE_ROWS].float()
    finally:
        model.config._attn_implementation = attention
    try:
        with _narrow_windows(model):
            found = _cached_logits(model, tokens)
    except (NotImplementedError, TypeError, AttributeError, RuntimeError, ValueError, IndexError) as error:
        raise MullError(f"the local engine has no cache for model type {kind} ({error})", remedy) from error
    if not expected.isfinite().all():
        raise MullError("the donor's logits are not numbers", "look for NaN in its weights with `mull inspect`")
    distance = ((found - expected).norm() / expected.norm()).item()
    tolerance = 1e-3 if model.dtype == torch.float32 else 0.1
    if not distance <= tolerance:
        raise MullError(f"the local engine is wrong for model type {kind} (logits are off by {distance:.1%})", remedy)


def bytes_per_position(model: PreTrainedModel) -> int:
    """Bytes of keys and values of one token of one row: those of all layers, plus those of the largest layer again.

    One layer is in memory twice while the cache changes its size (`RowCache.resize`).
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
def _narrow_windows(model: PreTrainedModel) -> Iterator[None]:
    """Sets every sliding window, in the config and in layers, to `_PROBE_WINDOW`; restores them at the end."""
    holders = [model.config.get_text_config(), *model.modules()]
    windows = [(holder, holder.sliding_window) for holder in holders if getattr(holder, "sliding_window", None)]
    try:
        for holder, _ in windows:
            holder.sliding_window = _PROBE_WINDOW
        yield
    finally:
        for holder, window in windows:
            holder.sliding_window = window


def _cached_logits(model: PreTrainedModel, tokens: torch.Tensor) -> torch.Tensor:
    """Logits `[_PROBE_ROWS, V]`: row i is after token L−1−i of `tokens` `[1, L]`, by a prefill of all tokens but the
    last in every row, then one decode step in which each row is at its own position."""
    last = tokens.shape[1] - 1
    cache = RowCache()
    cache.resize(_PROBE_ROWS, 64)
    cache.begin_prefill(torch.arange(_PROBE_ROWS, device=model.device))
    first = torch.zeros(1, dtype=torch.int64, device=model.device)  # see `RowLoop._prefill`
    shared: dict[str, Any] = {"past_key_values": cache, "use_cache": True, "logits_to_keep": first}
    rows = tokens[:, :last].expand(_PROBE_ROWS, last)
    model(input_ids=rows, position_ids=torch.arange(last, device=model.device).expand(_PROBE_ROWS, last), **shared)
    positions = last - torch.arange(_PROBE_ROWS, device=model.device)
    cache.begin_decode(positions)
    mask = StepMask(positions, 64, model.dtype)
    output = model(
        input_ids=tokens[0, positions, None],
        attention_mask=mask.causal,
        position_ids=positions[:, None],
        row_spans=[Span(0, _PROBE_ROWS, 64)],
        row_mask=mask,
        **shared,
    )
    if not cache.states:
        raise NotImplementedError("it does not use the cache it is given")
    return output.logits[:, -1].float()
