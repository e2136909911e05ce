# pyright: reportMissingImports=false
"""Linear layers and embeddings whose weights stay as they were loaded: `--quantization mull-in-place`, for CPUs.

On CPU vLLM packs weights for its matrix products and empties the parameter, which then cannot be set.
"""

from __future__ import annotations

from typing import Any

import torch
from vllm.model_executor.layers.linear import LinearBase, UnquantizedLinearMethod
from vllm.model_executor.layers.quantization import register_quantization_config
from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod, VocabParallelEmbedding

from mull.engines.vllm.unquantised import Unquantised


class UnpackedLinear(UnquantizedLinearMethod):
    def process_weights_after_loading(self, layer: Any) -> None:
        layer.cpu_linear = torch.nn.functional.linear


class UnpackedEmbedding(UnquantizedEmbeddingMethod):
    def process_weights_after_loading(self, layer: Any) -> None:
        layer.cpu_linear = torch.nn.functional.linear


@register_quantization_config("mull-in-place")
class Unpacked(Unquantised):
    """The layers that would be packed are told not to be."""

    called = "mull-in-place"

    def get_quant_method(self, layer: Any, prefix: str) -> Any:
        if isinstance(layer, VocabParallelEmbedding):
            return UnpackedEmbedding()
        return UnpackedLinear() if isinstance(layer, LinearBase) else None
