"""One end of a pair as a plain model, which reads prompts for those whose responses come from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from mull.engines.local.engine import device_of
from mull.engines.local.reading import Reading, read
from mull.engines.weights.interpolated import load
from mull.errors import MullError


class End:
    """A checkpoint. On CPU it computes in float32, as an engine with a λ per row does."""

    def __init__(self, folder: Path, *, device: str = "cpu", trust_remote_code: bool = False) -> None:
        """Loads the weights. Raises `MullError` for a folder without readable ones."""
        self._device = device_of(device)
        dtype = torch.float32 if self._device.type == "cpu" else "auto"
        self._model = load(folder, dtype=dtype, trust_remote_code=trust_remote_code)
        torch.nn.Module.to(self._model, self._device)
        self._context = int(self._model.config.get_text_config().max_position_embeddings)

    def read(self, prompts: Sequence[Sequence[int]]) -> Iterator[Reading]:
        """What it knows at the end of each prompt (token ids), in their order.

        Raises `MullError` for an empty prompt or one longer than the context.
        """
        for number, prompt in enumerate(prompts):
            if not 0 < len(prompt) <= self._context:
                raise MullError(f"prompt {number} has {len(prompt)} tokens, and the model's context is {self._context}")
        return read(self._model, prompts, self._device)
