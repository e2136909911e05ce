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
from vllm.model_executor.layers.fused_moe.activation import MoEActivation, apply_moe_activation
from vllm.model_executor.layers.fused_moe.config import FUSED_MOE_UNQUANTIZED_CONFIG, FusedMoEConfig
from vllm.model_executor.layers.fused_moe.fused_moe_method_base import FusedMoEMethodBase
from vllm.model_executor.layers.fused_moe.unquantized_fused_moe_method import UnquantizedFusedMoEMethod

from mull.engines.vllm import versions
from mull.engines.vllm.per_request.layers import rows_of
from mull.engines.vllm.per_request.rows import doubled

GATED = (MoEActivation.SILU, MoEActivation.GELU, MoEActivation.GELU_TANH)


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
        return plain and layer.activation in GATED and not spread.use_ep and spread.dp_size == 1

    def apply(self, layer: Any, x: Tensor, topk_weights: Tensor, topk_ids: Tensor, *shared: Any, **more: Any) -> Tensor:
        """`[tokens, H]` for x `[tokens, H]` and the chosen experts `[tokens, k]` with their weights."""
        compute = _by_expert if x.device.type == "cpu" else _by_kernel
        lams = rows_of(layer).of(x)
        return compute(x, lams, topk_weights, topk_ids, layer.w13_weight, layer.w2_weight, layer.activation.value)


def _activated(activation: str, gate_up: Tensor) -> Tensor:
    result = gate_up.new_empty(len(gate_up), gate_up.shape[1] // 2)
    apply_moe_activation(MoEActivation(activation), result, gate_up)
    return result


@torch.library.custom_op(  # torch.compile does not look inside, where the number of products depends on the data
    "mull::experts",
    mutates_args=(),
    schema="(Tensor x, Tensor lams, Tensor weights, Tensor ids, Tensor w13, Tensor w2, str activation) -> Tensor",
)
def _by_expert(
    x: Tensor, lams: Tensor, weights: Tensor, ids: Tensor, w13: Tensor, w2: Tensor, activation: str
) -> Tensor:
    both, result = doubled(x, lams), torch.zeros_like(x)
    for expert in ids.unique().tolist():
        token, place = (ids == expert).nonzero(as_tuple=True)
        gated = _activated(activation, F.linear(both[token], w13[expert]))
        output = F.linear(doubled(gated, lams[token]), w2[expert])
        result.index_add_(0, token, output * weights[token, place, None].to(output.dtype))
    return result


@_by_expert.register_fake
def _(x: Tensor, *others: Any) -> Tensor:
    return torch.empty_like(x)


def _by_kernel(
    x: Tensor, lams: Tensor, weights: Tensor, ids: Tensor, w13: Tensor, w2: Tensor, activation: str
) -> Tensor:
    tokens, count = ids.shape
    product = versions.grouped_product(w13, w2, ids, x.dtype)
    gate_up = x.new_empty(tokens, count, w13.shape[1])
    product(doubled(x, lams), w13, gate_up, None, count)
    gated = _activated(activation, gate_up.flatten(0, 1))
    output = x.new_empty(tokens, count, w2.shape[1])
    product(doubled(gated, lams.repeat_interleave(count, 0)), w2, output, weights, 1)
    return output.sum(1)
