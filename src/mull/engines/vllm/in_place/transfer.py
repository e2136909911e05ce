# pyright: reportMissingImports=false
"""The weight-transfer engine that sets a worker's weights: `weight_transfer_config={"backend": "mull"}`.

Nothing is transferred but a recipe: every worker has its own shards of both ends.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)

from mull.engines.vllm.in_place.live import LiveModel
from mull.engines.vllm.in_place.loader import LIVE
from mull.errors import MullError
from mull.merging.coefficients.recipe import Recipe


@dataclass
class Nothing(WeightTransferInitInfo):
    """The loader has all that is needed."""


@dataclass
class NewWeights(WeightTransferUpdateInfo):
    """`Recipe.to_json()` of the weights to set."""

    recipe: dict[str, Any] = field(default_factory=dict)


class InPlace(WeightTransferEngine[Nothing, NewWeights]):
    init_info_cls, update_info_cls = Nothing, NewWeights
    supports_draft_weight_update = False

    def init_transfer_engine(self, init_info: Nothing) -> None:
        self._live()

    def start_weight_update(self) -> None:
        """Nothing to prepare: weights are set in one step."""

    def receive_weights(self, update_info: NewWeights) -> None:
        self._live().set(Recipe.from_json(update_info.recipe))

    def finish_weight_update(self) -> None:
        """Nothing to finish."""

    def shutdown(self) -> None:
        """The ends go with the model."""

    def _live(self) -> LiveModel:
        live = getattr(self.model, LIVE, None)
        if live is None:
            raise MullError("this model was not loaded by mull", "start vLLM with --load-format mull-in-place")
        return live
