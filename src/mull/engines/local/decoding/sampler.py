"""Draws one token per row, each row by its own temperature, top-k, top-p and seed. Knows no model and no cache.

The random number of a draw depends only on the row's seed and the token's index in its response, so that the same
logits give the same token in any slot, batch and order.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from mull.engines.base import Sampling
from mull.engines.memory import WITHOUT_FLOAT64


class RowSampler:
    """Holds the sampling parameters of all slots and draws tokens."""

    def __init__(self, slots: int, device: torch.device) -> None:
        self._device = device
        self._exact = torch.device("cpu") if device.type in WITHOUT_FLOAT64 else device
        """Where float64 is computed."""
        self._seeds = np.zeros(slots, np.uint64)
        self._temperature = np.zeros(slots)
        self._top_k = np.zeros(slots, np.int64)
        self._top_p = np.ones(slots)
        self._cached: tuple[int, int, bool, torch.Tensor] | None = None

    def set(self, slot: int, sampling: Sampling, seed: int) -> None:
        """Set the parameters of the response in `slot`. The seed may be any integer."""
        self._seeds[slot] = seed & _MASK
        self._temperature[slot] = sampling.temperature
        self._top_k[slot] = sampling.top_k
        self._top_p[slot] = sampling.top_p
        self._cached = None

    def clear(self, slot: int) -> None:
        """Mark `slot` as empty: it is decoded greedily, which is fastest."""
        self._temperature[slot], self._top_k[slot], self._top_p[slot] = 0.0, 0, 1.0
        self._cached = None

    def permute(self, order: np.ndarray) -> None:
        """Slot i takes the parameters of slot `order[i]`."""
        count = len(order)
        for array in (self._seeds, self._temperature, self._top_k, self._top_p):
            array[:count] = array[order]
        self._cached = None

    def draw(
        self, logits: torch.Tensor, steps: np.ndarray, forced: Mapping[int, int] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One token per row of `logits` `[n, V]` and its logprob: int64 `[n]`, float32 `[n]`.

        `steps` int64 `[n]` is the index of the token within its response. Logprobs are of the distribution before
        temperature, top-k and top-p. The draw follows transformers: temperature, then the `top_k` likeliest, then the
        fewest likeliest tokens whose probability reaches `top_p`, then the inverse of their cumulative distribution,
        likeliest first, in float64. `forced`: rows whose token is given instead; its logprob is the model's own.
        """
        count = len(logits)
        logits = logits.float()
        limit, all_greedy, parameters = self._parameters(count, logits.shape[1])
        if all_greedy:
            chosen = logits.argmax(-1)
        else:
            uniform = torch.from_numpy(uniforms(self._seeds[:count], steps)).to(self._exact)
            temperature, top_k, top_p, greedy = parameters
            values, candidates = (part.to(self._exact) for part in logits.topk(limit, -1))
            weights = values.double().sub_(values[:, :1]).div_(temperature[:, None]).exp_()
            weights.masked_fill_(torch.arange(limit, device=self._exact) >= top_k[:, None], 0.0)
            below = weights.cumsum(-1)
            # A token is kept if the likelier ones have less than top_p of the probability; the first one always is.
            kept = (below - weights) < top_p[:, None] * below[:, -1:]
            kept[:, 0] = True
            total = (weights * kept).cumsum(-1)[:, -1:]
            rank = (below <= uniform[:, None] * total).sum(-1, keepdim=True)
            # By rounding, the rank could be that of the token after the last kept one.
            rank = torch.minimum(rank, (kept & (weights > 0)).sum(-1, keepdim=True) - 1).clamp_(min=0)
            likeliest = logits.argmax(-1).to(self._exact)
            chosen = torch.where(greedy > 0, likeliest, candidates.gather(-1, rank).squeeze(-1)).to(self._device)
        if forced:
            rows, ids = (torch.tensor(list(part), device=self._device) for part in (forced.keys(), forced.values()))
            chosen = chosen.index_copy(0, rows, ids)
        logprobs = logits.gather(-1, chosen[:, None]).squeeze(-1) - logits.logsumexp(-1)
        return chosen, logprobs

    def likeliest(self, logits: torch.Tensor, rows: Mapping[int, int]) -> dict[int, Alternatives]:
        """The likeliest tokens of `rows` (row → how many) and their logprobs, likeliest first."""
        chosen = logits[torch.tensor(list(rows), device=self._device)].float()
        values, ids = chosen.topk(min(max(rows.values()), chosen.shape[1]), -1)
        logprobs = (values - chosen.logsumexp(-1, keepdim=True)).tolist()
        return {
            row: tuple(zip(own_ids[:count], own[:count], strict=True))
            for (row, count), own_ids, own in zip(rows.items(), ids.tolist(), logprobs, strict=True)
        }

    def _parameters(self, count: int, vocabulary: int) -> tuple[int, bool, torch.Tensor]:
        """Largest top-k, whether all rows are greedy, and float64 `[4, n]`: temperature, top-k, top-p, greedy."""
        if self._cached is None or self._cached[0] != count:
            temperature, top_k, top_p = (a[:count] for a in (self._temperature, self._top_k, self._top_p))
            greedy = temperature == 0
            top_k = np.where((top_k == 0) | (top_k > vocabulary), vocabulary, top_k)
            limit = int(np.where(greedy, 1, top_k).max(initial=1))
            rows = np.stack([np.where(greedy, 1.0, temperature), np.where(greedy, 1, top_k), top_p, greedy])
            parameters = torch.from_numpy(rows).to(self._exact)
            self._cached = (count, limit, bool(greedy.all()), parameters)
        return self._cached[1:]


Alternatives = tuple[tuple[int, float], ...]
"""Token ids and their logprobs, likeliest first."""


def uniforms(seeds: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1), float64 `[n]`, for seeds uint64 `[n]` and steps `[n]`: SplitMix64, indexed by the step.

    Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators". The seed is mixed first, so that
    neighbouring seeds do not give the same numbers at shifted steps.
    """
    state = _mix(seeds + _GAMMA) + (steps.astype(np.uint64) + np.uint64(1)) * _GAMMA
    return (_mix(state) >> np.uint64(11)) * 2.0**-53


_MASK = (1 << 64) - 1
_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def _mix(bits: np.ndarray) -> np.ndarray:
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
