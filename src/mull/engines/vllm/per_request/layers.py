# pyright: reportMissingImports=false
"""vLLM's layers with both ends: one product of twice the length, vectors mixed elementwise.

A parameter of these layers is `[…, 2·K]` (a matrix) or `[K, 2]` (a vector), Instruct first. Code of vLLM that uses a
parameter without asking the layer's method finds the wrong shape, not silently one end's weights.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from vllm.model_executor.layers.fused_moe import GateLinear
from vllm.model_executor.layers.layernorm import GemmaRMSNorm, LayerNorm, RMSNorm
from vllm.model_executor.layers.linear import (
    LinearMethodBase,
    UnquantizedLinearMethod,
    register_weight_loader_v2_supported_method,
)
from vllm.model_executor.layers.quantization.base_config import QuantizeMethodBase
from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod

from mull.engines.vllm import versions
from mull.engines.vllm.per_request.rows import RowLambdas
from mull.errors import MullError


def rows_of(layer: Any) -> RowLambdas:
    """The λ of the rows: the loader of `--load-format mull` gives them to every layer."""
    rows = getattr(layer, "mull_rows", None)
    if rows is None:
        raise MullError("--quantization mull was given without --load-format mull", "give both")
    return rows


@register_weight_loader_v2_supported_method
class RowLinear(LinearMethodBase):
    """A linear layer. Created as vLLM's own, so that its weight loaders cut the shards of tensor parallelism."""

    def create_weights(self, layer: Any, *args: Any, **kwargs: Any) -> None:
        UnquantizedLinearMethod.create_weights(self, layer, *args, **kwargs)  # type: ignore[arg-type]

    def process_weights_after_loading(self, layer: Any) -> None:
        rows_of(layer)

    def apply(self, layer: Any, x: Tensor, bias: Tensor | None = None) -> Tensor:
        rows = rows_of(layer)
        y = F.linear(rows.doubled(x), layer.weight)
        return y if bias is None else y + rows.mixed(bias, y).to(y.dtype)


class RowGate(GateLinear):
    """A router of experts, without the kernels of vLLM's that read its weight themselves."""

    def forward(self, x: Tensor) -> Any:
        y = self.quant_method.apply(self, x.to(self.weight.dtype), self.bias)
        y = y if self.out_dtype is None else y.to(self.out_dtype)
        return (y, None) if self.return_bias else y


class RowEmbedding(QuantizeMethodBase):
    """An embedding, and a head, tied to it or not.

    A head has no rows of tokens but of those that are sampled. Its input comes doubled (`double_output`).
    """

    def create_weights(self, layer: Any, *args: Any, **kwargs: Any) -> None:
        UnquantizedEmbeddingMethod.create_weights(self, layer, *args, **kwargs)  # type: ignore[arg-type]

    def process_weights_after_loading(self, layer: Any) -> None:
        rows_of(layer)

    def embedding(self, layer: Any, ids: Tensor) -> Tensor:
        both = F.embedding(ids, layer.weight)
        instruct, thinking = both.float().chunk(2, -1)
        return torch.lerp(instruct, thinking, rows_of(layer).of(instruct)).to(both.dtype)

    def apply(self, layer: Any, x: Tensor, bias: Tensor | None = None) -> Tensor:
        assert bias is None  # refused at load
        return F.linear(x, layer.weight)


def double_output(rows: RowLambdas, hidden: Any) -> Any:
    """Hidden states `[tokens, H]` as `[tokens, 2·H]`, for a head: whichever rows it gets, they bring their λ along.

    What another stage of a pipeline gets is left as it is.
    """
    return rows.doubled(hidden) if isinstance(hidden, Tensor) else hidden


def _normed(norm: Any, x: Tensor, residual: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """x/√(mean x² + ε) in float32, of x + residual if there is one, which becomes the next residual."""
    exact = x.float()
    if residual is not None:
        exact = exact + residual.float()
        residual = exact.to(x.dtype)
    size = getattr(norm, "variance_size_override", None)
    squares = (exact if size is None else exact[..., :size]).pow(2).mean(-1, keepdim=True)
    return exact * torch.rsqrt(squares + norm.variance_epsilon), residual


class RowRMSNorm(RMSNorm):
    def forward(self, x: Tensor, residual: Tensor | None = None) -> Any:
        normed, residual = _normed(self, x, residual)
        y = normed.to(x.dtype) * rows_of(self).mixed(self.weight, x).to(x.dtype)
        return y if residual is None else (y, residual)


class RowGemmaRMSNorm(GemmaRMSNorm):
    """x·(1 + w), rounded after the product."""

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Any:
        normed, residual = _normed(self, x, residual)
        y = (normed * (1 + rows_of(self).mixed(self.weight, x))).to(x.dtype)
        return y if residual is None else (y, residual)


class RowLayerNorm(LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        rows = rows_of(self)
        y = F.layer_norm(x.float(), self.normalized_shape, None, None, self.eps) * rows.mixed(self.weight, x)
        return (y if self.bias is None else y + rows.mixed(self.bias, x)).to(x.dtype)


_NORMS: dict[type[nn.Module], type[nn.Module]] = {
    RMSNorm: RowRMSNorm,
    GemmaRMSNorm: RowGemmaRMSNorm,
    LayerNorm: RowLayerNorm,
}

ROW_NORMS = (RowRMSNorm, RowGemmaRMSNorm, RowLayerNorm)


def row_norms() -> dict[type[nn.Module], type[nn.Module]]:
    """The norms that can mix, each with the class that does it."""
    gathering = {
        norm: type(f"Row{norm.__name__}", (mixin, _NORMS[base]), {}) for norm, mixin, base in versions.gathering_norms()
    }
    return _NORMS | gathering
