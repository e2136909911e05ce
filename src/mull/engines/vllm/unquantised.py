# pyright: reportMissingImports=false
"""Layers that load or compute in another way have a quantisation method for vLLM. These quantise nothing."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
from vllm.model_executor.layers.quantization.base_config import QuantizationConfig


class Unquantised(QuantizationConfig):
    """`--quantization called`; subclasses say which layers are theirs (`get_quant_method`)."""

    called: ClassVar[str]

    def get_name(self) -> Any:
        return self.called

    def get_supported_act_dtypes(self) -> list[torch.dtype]:
        return [torch.float32, torch.bfloat16, torch.float16]

    @classmethod
    def get_min_capability(cls) -> int:
        return 0

    @staticmethod
    def get_config_filenames() -> list[str]:
        return []

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls()
