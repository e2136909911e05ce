# pyright: reportMissingImports=false
"""Loads the donor, watches where its tensors go, and keeps both ends beside it: `--load-format mull-in-place`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn
from vllm.model_executor.model_loader import register_model_loader
from vllm.model_executor.model_loader.base_loader import BaseModelLoader

from mull.engines.vllm import versions
from mull.engines.vllm.in_place.files import Files
from mull.engines.vllm.in_place.live import LiveModel
from mull.engines.vllm.in_place.regions import Region, Watch
from mull.engines.vllm.refusals import IN_PLACE, refuse
from mull.engines.vllm.told import telling
from mull.engines.weights.placement import Placement

LIVE = "mull_live"
"""The attribute of the model by which the weight-transfer engine finds its `LiveModel`."""


@register_model_loader("mull-in-place")
class InPlaceLoader(BaseModelLoader):
    """Needs `model_loader_extra_config`: {"folders": {role: folder}, "donor": role, "ends": a `Placement`}.

    The ends are loaded here, before vLLM measures how much memory is left for keys and values.
    """

    def __init__(self, load_config: Any) -> None:
        super().__init__(load_config)
        versions.check()
        given: Mapping[str, Any] = load_config.model_loader_extra_config
        self._files = Files({role: Path(folder) for role, folder in given["folders"].items()}, given["donor"])
        self._placement = Placement(given["ends"])
        self._regions: Mapping[str, list[Region]] = {}

    def download_model(self, model_config: Any) -> None:
        """There is nothing to fetch: the folders are here."""

    def load_weights(self, model: nn.Module, model_config: Any) -> None:
        with Watch(model) as watch:
            model.load_weights(watch.naming(self._files.end(self._files.donor)))  # type: ignore[operator]
        self._regions = watch.regions

    @telling()
    def load_model(self, vllm_config: Any, model_config: Any, prefix: str = "") -> nn.Module:
        refuse(vllm_config, "weights set in place", IN_PLACE)
        model = super().load_model(vllm_config, model_config, prefix)
        object.__setattr__(model, LIVE, LiveModel(model, model_config, self._files, self._regions, self._placement))
        return model
