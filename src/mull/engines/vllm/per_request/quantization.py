# pyright: reportMissingImports=false
"""`--quantization mull`: to vLLM, layers with both ends are layers with a quantisation method of their own."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from vllm.model_executor.layers.quantization.base_config import QuantizationConfig, QuantizeMethodBase

from mull.engines.vllm import versions
from mull.engines.vllm.plugin import NAME


class PairConfig(QuantizationConfig):
    """Made where vLLM's configuration is, and again in each process that gets it: there the rest is registered."""

    def __init__(self) -> None:
        super().__init__()
        versions.check()
        from mull.engines.vllm.per_request import frontend
        from mull.engines.vllm.per_request.loader import PairLoader

        versions.register_loader(NAME, PairLoader)
        frontend.install()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()

    def get_name(self) -> Any:
        return NAME

    def get_supported_act_dtypes(self) -> list[torch.dtype]:
        return [torch.float32, torch.bfloat16, torch.float16]

    @classmethod
    def get_min_capability(cls) -> int:
        return 0

    @staticmethod
    def get_config_filenames() -> list[str]:
        return []

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> PairConfig:
        return cls()

    def get_quant_method(self, layer: nn.Module, prefix: str) -> QuantizeMethodBase | None:
        from vllm.model_executor.layers.fused_moe import RoutedExperts
        from vllm.model_executor.layers.linear import LinearBase
        from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

        from mull.engines.vllm.per_request.experts import RowExperts
        from mull.engines.vllm.per_request.layers import RowEmbedding, RowLinear

        if isinstance(layer, RoutedExperts):
            return RowExperts(layer.moe_config)
        if isinstance(layer, LinearBase):
            return RowLinear()
        return RowEmbedding() if isinstance(layer, VocabParallelEmbedding) else None
