# pyright: reportMissingImports=false
"""Makes a model of vLLM hold both ends: checks that each of its layers can, and has each end read into its half.

vLLM's own weight loading is run twice, the parameters pointing first to the Instruct half, then to the Thinking half
of what the layers will use: so every way in which it renames, joins and shards weights holds for both.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from vllm.model_executor.layers.fused_moe import GateLinear, RoutedExperts
from vllm.model_executor.layers.linear import (
    ColumnParallelLinear,
    MergedColumnParallelLinear,
    QKVParallelLinear,
    ReplicatedLinear,
    RowParallelLinear,
    UnquantizedLinearMethod,
)
from vllm.model_executor.layers.vocab_parallel_embedding import (
    ParallelLMHead,
    UnquantizedEmbeddingMethod,
    VocabParallelEmbedding,
)

from mull.engines.vllm.per_request.experts import RowExperts
from mull.engines.vllm.per_request.layers import ROW_NORMS, RowEmbedding, RowGate, RowLinear, row_norms
from mull.engines.vllm.per_request.rows import RowLambdas
from mull.engines.vllm.refusals import ANOTHER_WAY
from mull.errors import MullError

Half = Literal[0, 1]
LINEAR = (
    ColumnParallelLinear,
    MergedColumnParallelLinear,
    QKVParallelLinear,
    ReplicatedLinear,
    RowParallelLinear,
)
"""Exactly these: a class derived from one may use its weight in ways of its own."""


class Ends:
    """Both ends of every parameter of a model."""

    def __init__(self, model: nn.Module, rows: RowLambdas) -> None:
        """Raises `MullError` that names the layers that hold parameters and cannot mix them."""
        norms = row_norms()
        unknown = []
        for name, module in model.named_modules():
            if any(True for _ in module.parameters(recurse=False)):
                _adopt(module, norms)
                module.mull_rows = rows  # type: ignore[assignment]
                if not _mixes(module):
                    unknown.append(f"{name} ({type(module).__name__})")
        if unknown:
            more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
            raise MullError(f"no λ per request for the weights of {', '.join(unknown[:3])}{more}", ANOTHER_WAY)
        self._names = {parameter: name for name, parameter in model.named_parameters()}
        self._both: dict[nn.Parameter, Tensor] = {}
        for parameter in self._names:
            shape, size = parameter.shape[:-1], parameter.shape[-1]
            both = (size, 2) if not shape else (*shape, 2 * size)
            self._both[parameter] = torch.empty(both, dtype=parameter.dtype, device=parameter.device)
            parameter.data = self._half(parameter, 0)  # frees what vLLM had made
            if parameter.is_cuda:
                torch.cuda.empty_cache()  # blocks of the old size are of no use to what comes
        persistent = model.state_dict(keep_vars=True)
        self._buffers = {name: value for name, value in persistent.items() if not isinstance(value, nn.Parameter)}
        self._before = {name: value.clone() for name, value in self._buffers.items()}

    def _half(self, parameter: nn.Parameter, half: Half) -> Tensor:
        both = self._both[parameter]
        return both[:, half] if parameter.dim() == 1 else both.chunk(2, -1)[half]

    def point_to(self, half: Half) -> None:
        """What is loaded next goes into that half."""
        for parameter in self._names:
            parameter.data = self._half(parameter, half).fill_(torch.nan)

    def check(self, source: str) -> None:
        """Raises `MullError` if a parameter was not read from `source` wholly, or something else was."""
        missing = [name for parameter, name in self._names.items() if parameter.data.isnan().any()]
        if missing:
            raise MullError(
                f"{source} does not give every value of {missing[0]} ({len(missing)} parameters in all)", ANOTHER_WAY
            )
        changed = [name for name, value in self._buffers.items() if not torch.equal(value, self._before[name])]
        if changed:
            raise MullError(f"no λ per request for {changed[0]}, which is no parameter of a layer", ANOTHER_WAY)

    def join(self) -> None:
        """Both halves together become the parameters."""
        for parameter, both in self._both.items():
            parameter.data = both


def _adopt(module: Any, norms: dict[type[nn.Module], type[nn.Module]]) -> None:
    """Gives a layer the code that mixes, where vLLM did not: to norms, and to layers made without a quantisation."""
    module.__class__ = norms.get(type(module), type(module))
    if type(module) is GateLinear:
        module.__class__, module.quant_method = RowGate, RowLinear()
    method = type(getattr(module, "quant_method", None))
    if method is UnquantizedLinearMethod and type(module) in LINEAR:
        module.quant_method = RowLinear()
    elif method is UnquantizedEmbeddingMethod:
        module.quant_method = RowEmbedding()
        module.use_fused_embedding = False  # a kernel that reads the weight itself


def _mixes(module: Any) -> bool:
    """Whether a layer mixes all parameters of its own."""
    held = {name for name, _ in module.named_parameters(recurse=False)}
    if isinstance(module, ROW_NORMS):
        return held <= {"weight", "bias"}
    method = getattr(module, "quant_method", None)
    if isinstance(method, RowExperts):
        return type(module) is RoutedExperts and held == {"w13_weight", "w2_weight"} and method.mixes(module)
    if isinstance(method, RowLinear) and type(module) in (*LINEAR, RowGate):
        return held <= {"weight", "bias"} and not (module.skip_bias_add and "bias" in held)
    return (
        isinstance(method, RowEmbedding)
        and type(module) in (VocabParallelEmbedding, ParallelLMHead)
        and held == {"weight"}
    )
