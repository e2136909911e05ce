"""What a model knows when it has read a prompt: hidden states of every layer and the likeliest next tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

TOP = 20
"""Next tokens whose probabilities are kept: as many as OpenAI's API gives."""
MOST_TOKENS = 4096
"""Padded tokens of one forward pass, unless one prompt alone is longer."""


class Reading(NamedTuple):
    """At the last token of one prompt."""

    hidden: np.ndarray
    """float32 `[layers, hidden]`: the output of each decoder layer; the last one after the final norm."""
    top_logprobs: np.ndarray
    """float32 `[TOP]`: natural logs of the probabilities of the likeliest next tokens, likeliest first."""


@torch.inference_mode()
def read(model: Callable[..., Any], prompts: Sequence[Sequence[int]], device: torch.device) -> Iterator[Reading]:
    """A `Reading` for each of `prompts` (token ids), in their order.

    Prompts are padded at their end, which attention that looks back only does not see.
    """
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    found: dict[int, Reading] = {}
    while order:
        batch = [order.pop()]  # the longest first, so that memory runs out at once or never
        width = len(prompts[batch[0]])
        while order and (len(batch) + 1) * width <= MOST_TOKENS:
            batch.append(order.pop())
        found.update(zip(batch, _batch(model, [prompts[i] for i in batch], width, device), strict=True))
    yield from (found[i] for i in range(len(prompts)))


def _batch(
    model: Callable[..., Any], prompts: Sequence[Sequence[int]], width: int, device: torch.device
) -> list[Reading]:
    ids = torch.tensor([[*prompt, *[prompt[-1]] * (width - len(prompt))] for prompt in prompts], device=device)
    last = torch.tensor([len(prompt) - 1 for prompt in prompts], device=device)
    ends, place = last.unique(return_inverse=True)
    positions = torch.arange(width, device=device).expand(len(prompts), width)
    output = model(
        input_ids=ids, position_ids=positions, use_cache=False, output_hidden_states=True, logits_to_keep=ends
    )
    rows = torch.arange(len(prompts), device=device)
    hidden = torch.stack([state[rows, last].float() for state in output.hidden_states[1:]], 1)
    logprobs = output.logits[rows, place].float().log_softmax(-1)
    top = logprobs.topk(min(TOP, logprobs.shape[-1])).values
    return [Reading(*pair) for pair in zip(hidden.cpu().numpy(), top.cpu().numpy(), strict=True)]
