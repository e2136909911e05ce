"""The rows of a loop with all that belongs to them: slots, cache, random generators, λ. They move and go together.

Knows no queue and no limit of memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from mull.engines.forward import cache_name
from mull.engines.local.decoding.cache import RowCache
from mull.engines.local.decoding.layout import Layout
from mull.engines.local.decoding.sampler import RowSampler
from mull.engines.local.decoding.slots import Slots


class Batch:
    """At most `size` rows. Forward passes have a multiple of `row_step` of them."""

    def __init__(
        self,
        model: Callable[..., Any],
        *,
        size: int,
        device: torch.device,
        layout: Layout,
        row_step: int,
        set_lams: Callable[[torch.Tensor], None] | None,
    ) -> None:
        self.size, self.device, self.layout, self.row_step = size, device, layout, row_step
        slots = round_up(size, row_step)
        self.slots = Slots(slots)
        self.cache = RowCache(layout)
        self.sampler = RowSampler(slots, device)
        self._model, self._set_lams = model, set_lams
        self._given_cache = {cache_name(model): self.cache}
        self._lams: tuple[np.ndarray, torch.Tensor] | None = None
        """Those of the latest forward pass. The same rows give the same tensor, from which the model has derived
        others."""

    def forward(self, slots: np.ndarray, **inputs: Any) -> Any:
        """The model's output for the rows in `slots`, each at its own λ, which reads and writes the cache."""
        if self._set_lams is not None:
            lams = self.slots.lams[slots]
            if self._lams is None or not np.array_equal(lams, self._lams[0]):
                self._lams = lams, self.tensor(lams)
            self._set_lams(self._lams[1])
        return self._model(use_cache=True, **inputs, **self._given_cache)

    def clear(self, slot: int) -> None:
        """Empties `slot`."""
        self.slots.clear(slot)
        self.sampler.clear(slot)

    @torch.inference_mode()
    def reorder(self, order: np.ndarray) -> None:
        """Slot i takes the row of slot `order[i]`, for all i < len(order)."""
        used = len(order)
        if used == 0:
            return
        self.cache.permute(self.tensor(order), int(self.slots.positions[:used].max()) + 1)
        self.sampler.permute(order)
        self.slots.permute(order)

    def tensor(self, array: np.ndarray) -> torch.Tensor:
        """A copy on the device, because the loop changes `array` afterwards."""
        return torch.tensor(array, device=self.device)


def round_up(number: int, step: int) -> int:
    return -(-int(number) // step) * step
