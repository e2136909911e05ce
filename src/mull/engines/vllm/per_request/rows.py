"""The λ of every row of a batch, in one buffer that stays where it is, and how rows are mixed with it.

The buffer is written before each forward pass and read inside, so compiled code and CUDA graphs always read the λ of
the present batch. Knows nothing of vLLM.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class RowLambdas:
    """The λ of the present batch's tokens, shared by all layers of a model."""

    def __init__(self, tokens: int, default: float, device: torch.device | str) -> None:
        """`tokens`: most tokens of a batch, padding included. Rows that are never set have the λ `default`."""
        self.buffer = torch.full((tokens,), default, dtype=torch.float32, device=device)
        self.token_dim = 0
        """Which dimension of activations counts the tokens, in activations of three dimensions or more."""

    def set(self, lams: np.ndarray, tokens: np.ndarray) -> None:
        """Gives the tokens of the next forward pass their λ: float32 `[requests]`, each for so many tokens."""
        rows = torch.from_numpy(np.repeat(lams.astype(np.float32), tokens))
        if self.buffer.device.type == "cuda":
            rows = rows.pin_memory()  # of its own: one in use by an earlier step must not be written to
        self.buffer[: len(rows)].copy_(rows, non_blocking=True)

    def of(self, x: Tensor) -> Tensor:
        """The λ of each row of `x`, float32, with as many dimensions as `x`."""
        dim = self.token_dim if x.dim() > 2 else 0  # without a dimension for the batch if it was flattened
        return self.buffer[: x.shape[dim]].view(*[1] * dim, -1, *[1] * (x.dim() - dim - 1))

    def doubled(self, x: Tensor) -> Tensor:
        return doubled(x, self.of(x))

    def mixed(self, ends: Tensor, like: Tensor) -> Tensor:
        """A vector with the ends `[K, 2]`, mixed for each row of `like` `[…, K]`, float32."""
        instruct, thinking = ends.float().unbind(-1)
        return torch.lerp(instruct, thinking, self.of(like))


def doubled(x: Tensor, lams: Tensor) -> Tensor:
    """[(1−λ)·x, λ·x], `[…, 2·K]` for x `[…, K]`: times [W_I, W_T] it gives (1−λ)·W_I·x + λ·W_T·x."""
    return torch.cat([((1 - lams) * x).to(x.dtype), (lams * x).to(x.dtype)], -1)
