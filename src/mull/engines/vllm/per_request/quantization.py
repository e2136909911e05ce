# pyright: reportMissingImports=false
"""`--quantization mull`: to vLLM, layers with both ends are layers with a quantisation method of their own."""

from __future__ import annotations

from typing import Any

from torch import nn
from vllm.model_executor.layers.quantization.base_config import QuantizeMethodBase

from mull.engines.vllm import versions
from mull.engines.vllm.plugin import NAME
from mull.engines.vllm.unquantised import Unquantised


class PairConfig(Unquantised):
    """Made where vLLM's configuration is, and again in each process that gets it: there the rest is registered."""

    called = NAME

    def __init__(self) -> None:
        super().__init__()
        versions.check()
        from mull.engines.vllm.per_request import frontend
        from mull.engines.vllm.per_request.loader import PairLoader

        versions.register_loader(NAME, PairLoader)
        frontend.install()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()

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
