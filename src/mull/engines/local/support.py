"""Checks whether the batching loop decodes a transformers model as the model itself does."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel

from mull.engines.base import Request, Sampling
from mull.engines.forward import own_attention
from mull.engines.local.decoding.layout import Layout, layout_of
from mull.engines.local.decoding.loop import RowLoop
from mull.engines.local.decoding.rows import Lookahead
from mull.engines.memory import MEMORY_REMEDY, memory_errors
from mull.errors import MullError

_PROMPTS = (9, 6, 1)
"""Tokens of the prompts that are decoded together: some errors show only with several rows, at different positions."""
_STEPS = 3
"""Tokens decoded for each."""
_WINDOW, _KEPT = 4, 6
"""Sliding windows during the test, and the positions that their layers keep. Prompts reach beyond both, so that new
positions replace old ones and some that are kept are masked."""

_LAYERS = {"full_attention", "sliding_attention", "linear_attention", "conv", "hybrid", "moe", "mlp"}
"""Kinds of layers, as configs name them, whose state is known: some others (such as attention in chunks) could pass
the test, which is short, and be wrong."""
_LAM = 0.5
"""λ of all rows of the test, in a model with a λ per row."""
_SERVE = "Let vLLM run it (--engine vllm, docs/scaling.md), or serve it and give --endpoint"

_SetLams = Callable[[torch.Tensor], None]


@torch.inference_mode()
def check_supported(model: PreTrainedModel, set_lams: _SetLams | None = None) -> Layout:
    """Decodes a few tokens of three prompts in one batch, and compares with the model's own forward pass.

    Returns the layout of the model's cache. `set_lams`: of a model with a λ per row. Raises `MullError`, which names
    the model type, for rotary scaling that depends on the longest row of a batch, for layers whose state the cache
    cannot hold, and for anything else that makes the results differ.
    """
    config = model.config.get_text_config()
    kind = repr(config.model_type)
    layers = set(getattr(config, "layer_types", None) or ()) - _LAYERS
    if layers:
        raise MullError(f"the local engine has no cache for model type {kind} with {', '.join(sorted(layers))}", _SERVE)
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if rope in ("dynamic", "longrope"):
        raise MullError(f"model type {kind} has {rope} rope: rows of one batch would change one another", _SERVE)
    weight: Any = model.get_input_embeddings().weight  # a model with a λ per row cannot say its device and dtype
    try:
        with memory_errors(f"on {weight.device} in a first forward pass", MEMORY_REMEDY):
            _give(set_lams, 1, weight.device)
            layout = layout_of(model)
            with _narrow_windows(model):
                texts, found = _decoded(model, layout, weight.dtype, set_lams)
                _give(set_lams, len(texts), weight.device)
                expected = _own(model, texts, weight.device)
    except (NotImplementedError, TypeError, AttributeError, RuntimeError, LookupError, ValueError) as error:
        if set_lams is not None:
            raise MullError(f"no λ per row for model type {kind} ({error})", "Mix its weights for one λ") from error
        raise MullError(f"the local engine has no cache for model type {kind} ({error})", _SERVE) from error
    if not expected.isfinite().all():
        raise MullError("the donor's logits are not numbers", "look for NaN in its weights with `mull inspect`")
    distance = ((found - expected).norm() / expected.norm()).item()
    tolerance = 1e-3 if weight.dtype == torch.float32 else 0.1
    if not distance <= tolerance:
        raise MullError(f"the local engine is wrong for model type {kind} (logits are off by {distance:.1%})", _SERVE)
    return layout


@contextmanager
def _narrow_windows(model: PreTrainedModel) -> Iterator[None]:
    """Sets every sliding window, in the config and in layers, to `_WINDOW`; restores them at the end."""
    holders = [model.config.get_text_config(), *model.modules()]
    windows = [(holder, holder.sliding_window) for holder in holders if getattr(holder, "sliding_window", None)]
    try:
        for holder, _ in windows:
            holder.sliding_window = _WINDOW
        yield
    finally:
        for holder, window in windows:
            holder.sliding_window = window


def _give(set_lams: _SetLams | None, rows: int, device: torch.device) -> None:
    if set_lams is not None:
        set_lams(torch.full((rows,), _LAM, device=device))


def _decoded(
    model: PreTrainedModel, layout: Layout, dtype: torch.dtype, set_lams: _SetLams | None
) -> tuple[list[list[int]], torch.Tensor]:
    """The batching loop's greedy texts after `_PROMPTS`, and the logits `[rows, steps, V]` from which it took them."""
    vocabulary = model.config.get_text_config().vocab_size
    steps: list[torch.Tensor] = []

    @functools.wraps(model.forward)  # the loop reads its arguments' names
    def watched(**inputs: Any) -> Any:
        output = model(**inputs)
        if "row_mask" in inputs:
            steps.append(output.logits[: len(_PROMPTS), -1].float())
            # The loop would stop at the first NaN, the check names its cause.
            output.logits = output.logits.nan_to_num()
        return output

    loop = RowLoop(
        watched,
        batch=len(_PROMPTS),
        context=64,
        stop_ids=(),
        device=layout.device,
        dtype=dtype,
        layout=layout.with_windows(dict.fromkeys(layout.windows, _WINDOW), step=_KEPT),
        free=sys.maxsize,
        set_lams=set_lams,
    )
    sampling = Sampling(temperature=0, max_tokens=_STEPS)
    requests = [
        Request(
            id=str(length),
            prompt_ids=tuple((length + index) % vocabulary for index in range(length)),
            seed=0,
            sampling=sampling,
            lam=None if set_lams is None else _LAM,
        )
        for length in _PROMPTS
    ]
    rows = {row.request.id: row for finished in loop.steps(Lookahead(requests)) for row in finished}
    texts = [[*request.prompt_ids, *rows[request.id].tokens.tolist()] for request in requests]
    return texts, torch.stack(steps, 1)


def _own(model: PreTrainedModel, texts: list[list[int]], device: torch.device) -> torch.Tensor:
    """Logits `[rows, steps, V]` before the last `_STEPS` tokens of `texts`, by transformers' own attention at once."""
    ids = torch.zeros(len(texts), max(map(len, texts)), dtype=torch.int64, device=device)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = torch.tensor(text)
    attention = model.config._attn_implementation
    try:
        model.config._attn_implementation = own_attention(model)
        logits = model(input_ids=ids, use_cache=False).logits.float()
    finally:
        model.config._attn_implementation = attention
    return torch.stack([logits[row, len(text) - _STEPS - 1 : len(text) - 1] for row, text in enumerate(texts)])
