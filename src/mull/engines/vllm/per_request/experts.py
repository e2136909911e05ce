# pyright: reportMissingImports=false
"""A mixture of experts in which every row has its own λ.

gate·up is not linear in the weights, so gate and up are mixed before the activation, and the activation's result is
doubled again for the way down. On CUDA both products are vLLM's Triton kernel, which takes weights of any length; no
step waits for the device, so it can stand in a CUDA graph. On CPU the experts are taken one after the other.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from vllm.model_executor.layers.fused_moe.activation import apply_moe_activation
from vllm.model_executor.layers.fused_moe.config import FUSED_MOE_UNQUANTIZED_CONFIG, FusedMoEConfig
from vllm.model_executor.layers.fused_moe.fused_moe_method_base import FusedMoEMethodBase
from vllm.model_executor.layers.fused_moe.unquantized_fused_moe_method import UnquantizedFusedMoEMethod

from mull.engines.vllm import versions
from mull.engines.vllm.per_request.layers import rows_of
from mull.engines.vllm.per_request.rows import doubled


class RowExperts(FusedMoEMethodBase):
    """The routed experts of a layer; the router's λ is that of its linear layer."""

    def __init__(self, moe: FusedMoEConfig) -> None:
        super().__init__(moe)

    def create_weights(self, layer: Any, *args: Any, **kwargs: Any) -> None:
        UnquantizedFusedMoEMethod.create_weights(self, layer, *args, **kwargs)  # type: ignore[arg-type]

    def process_weights_after_loading(self, layer: Any) -> None:
        rows_of(layer)

    def get_fused_moe_quant_config(self, layer: nn.Module) -> Any:
        return FUSED_MOE_UNQUANTIZED_CONFIG

    def mixes(self, layer: Any) -> bool:
        """Whether this is a layer of the kind that is computed here: gated, without biases, on one rank of data and
        of experts (tokens of other ranks come without their λ)."""
        spread = self.moe.moe_parallel_config
        plain = not (self.moe.has_bias or layer.apply_router_weight_on_input or layer.swiglu_limit is not None)
        return plain and self.moe.is_act_and_mul and not spread.use_ep and spread.dp_size == 1

    def apply(self, layer: Any, x: Tensor, topk_weights: Tensor, topk_ids: Tensor, *shared: Any, **more: Any) -> Tensor:
        """`[tokens, H]` for x `[tokens, H]` and the chosen experts `[tokens, k]` with their weights."""
        compute = _by_expert if x.device.type == "cpu" else _by_kernel
        return compute(layer, x, rows_of(layer).of(x), topk_weights, topk_ids)


def _activated(layer: Any, gate_up: Tensor) -> Tensor:
    result = gate_up.new_empty(len(gate_up), gate_up.shape[1] // 2)
    apply_moe_activation(layer.activation, result, gate_up)
    return result


def _by_expert(layer: Any, x: Tensor, lams: Tensor, weights: Tensor, ids: Tensor) -> Tensor:
    both, result = doubled(x, lams), torch.zeros_like(x)
    for expert in ids.unique().tolist():
        token, place = (ids == expert).nonzero(as_tuple=True)
        gated = _activated(layer, F.linear(both[token], layer.w13_weight[expert]))
        output = F.linear(doubled(gated, lams[token]), layer.w2_weight[expert])
        result.index_add_(0, token, output * weights[token, place, None].to(output.dtype))
    return result


def _by_kernel(layer: Any, x: Tensor, lams: Tensor, weights: Tensor, ids: Tensor) -> Tensor:
    tokens, count = ids.shape
    product = versions.grouped_product(layer.w13_weight, layer.w2_weight, ids, x.dtype)
    gate_up = x.new_empty(tokens, count, layer.w13_weight.shape[1])
    product(doubled(x, lams), layer.w13_weight, gate_up, None, count)
    gated = _activated(layer, gate_up.flatten(0, 1))
    output = x.new_empty(tokens, count, layer.w2_weight.shape[1])
    product(doubled(gated, lams.repeat_interleave(count, 0)), layer.w2_weight, output, weights, 1)
    return output.sum(1)
