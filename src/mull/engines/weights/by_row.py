"""A model in which every row of a batch has its own λ, without merged copies.

Each layer is linear in its weights, so with the ends W_I and W_T a row b with λ_b needs
y_b = (1−λ_b)·W_I·x_b + λ_b·W_T·x_b, which is one product of [(1−λ_b)·x_b, λ_b·x_b] with [W_I, W_T]: the work and the
weights of two models, whatever the number of different λ. Norm gains, biases and embeddings are mixed elementwise per
row, in float32. The result is Θ(λ) = λ·Thinking + (1−λ)·Instruct without the rounding of a merged checkpoint.

The layers are transformers' own: each weight is replaced by one that mixes per row (`row_weights`). Linear layers and
plain RMS norms, where most of the time goes, get a shorter way to the same result.
"""

from __future__ import annotations

from functools import partial
from inspect import signature
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from mull.engines.weights.combining import LiveParameter
from mull.engines.weights.row_weights import Joined, Mixed, MixedVector, RowLambdas, RowWeight, joint_linear, row_linear

EXPERTS = "mull_rows"
"""Name of `row_experts` among transformers' experts implementations."""
SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Linear layers of one module that are applied to the same input, in this order."""


def row_experts(self: Any, hidden: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
    """A mixture of experts by rows: `hidden` `[tokens, H]`, chosen experts and their weights `[tokens, k]`.

    Gate and up are mixed before the activation. Raises `NotImplementedError` for experts of another layout.
    """
    normed = getattr(self, "has_post_expert_norm", False)  # from transformers 5.20 on
    if self.has_bias or self.is_transposed or not self.has_gate or normed:
        raise NotImplementedError("experts of this layout")
    rows = self.gate_up_proj.rows
    result = torch.zeros_like(hidden, dtype=torch.float32)
    for expert in top_k_index.unique().tolist():
        token, place = (top_k_index == expert).nonzero(as_tuple=True)
        with rows.only(token, hidden.shape[0]):
            gated = self._apply_gate(F.linear(hidden[token], self.gate_up_proj[expert]))
            output = F.linear(gated, self.down_proj[expert])
        result.index_add_(0, token, (output * top_k_weights[token, place, None]).float())
    return result.to(hidden.dtype)


ALL_EXPERTS_FUNCTIONS.register(EXPERTS, row_experts)


def mix_by_row(model: PreTrainedModel, parameters: list[LiveParameter]) -> RowLambdas:
    """Replaces every weight of `model` by its ends, and returns what gives the rows their λ before a forward pass.

    `parameters` are the model's, with their ends. The list is emptied, so that the memory of each parameter and its
    ends is free before the next one is built, unless the caller holds them.
    """
    rows = RowLambdas()
    mixed: dict[int, RowWeight] = {}
    by_pointer = {parameter.live.data_ptr(): parameter for parameter in parameters}
    parameters.clear()
    for module in model.modules():
        fused = _is_plain_rms_norm(module)
        for name, parameter in list(module._parameters.items()):
            if parameter is None:
                continue
            if id(parameter) not in mixed:
                mixed[id(parameter)] = _mixed(parameter, by_pointer.pop(parameter.data_ptr()), rows)
            del module._parameters[name]
            object.__setattr__(module, name, mixed[id(parameter)])
        if fused:
            eps = torch.tensor(module.variance_epsilon, device=model.device)
            module.forward = partial(_scaled_rms, weight=module.weight, eps=eps)  # type: ignore[arg-type]
    _shorten_linear_layers(model)
    model.config._experts_implementation = EXPERTS
    return rows


def _shorten_linear_layers(model: PreTrainedModel) -> None:
    """The same products without the way through torch's dispatch, which costs as much as a small product; one product
    for layers that share an input."""
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    alone = [module for module in model.modules() if type(module) is torch.nn.Linear]
    for module in alone:
        if id(module.weight) not in embeddings:
            module.weight.order_for_products()  # type: ignore[union-attr]
        module.forward = partial(row_linear, weight=module.weight, bias=module.bias)  # type: ignore[arg-type]
    for module in model.modules():
        for names in SIBLINGS:
            siblings = [getattr(module, name, None) for name in names]
            if all(type(sibling) is torch.nn.Linear for sibling in siblings):
                _join(siblings)


def _join(siblings: list[Any]) -> None:
    weights: list[Mixed] = [module.weight for module in siblings]
    if len({weight.shape[1] for weight in weights}) > 1:
        return
    joined = Joined(weights)
    for index, module in enumerate(siblings):
        module.forward = partial(joint_linear, joined=joined, index=index, bias=module.bias)


def _is_plain_rms_norm(module: torch.nn.Module) -> bool:
    """Whether a layer is w·x/√(mean x² + ε), as its results say: torch computes that in one operation."""
    parameters = dict(module.named_parameters(recurse=False))
    if set(parameters) != {"weight"} or not hasattr(module, "variance_epsilon") or parameters["weight"].dim() != 1:
        return False
    if len(signature(module.forward).parameters) != 1:  # a norm with a gate
        return False
    weight = parameters["weight"]
    x = torch.linspace(-2, 3, 2 * len(weight), device=weight.device, dtype=weight.dtype).view(2, 1, -1)
    normed = F.rms_norm(x.float(), [len(weight)], None, float(module.variance_epsilon)).to(x.dtype)  # type: ignore[arg-type]
    return torch.allclose(module(x), weight * normed, rtol=1e-5 if x.dtype == torch.float32 else 2e-2, atol=1e-6)


def _scaled_rms(x: Tensor, weight: MixedVector, eps: Tensor) -> Tensor:
    exact = x.float()
    length = torch.linalg.vector_norm(exact, dim=-1, keepdim=True)
    # On CPU these take a third of the time of torch's own rms_norm, which is several passes there.
    normed = (exact * torch.addcmul(eps, length, length, value=1 / x.shape[-1]).rsqrt_()).to(x.dtype)
    return normed * weight.per_row(normed)


def _mixed(parameter: Tensor, ends: LiveParameter, rows: RowLambdas) -> RowWeight:
    pair = (ends.instruct, ends.thinking)
    if parameter.dim() == 1:
        instruct, thinking = (_whole(end.to(parameter), parameter) for end in pair)
        return MixedVector(rows, rows.add_vector(instruct, thinking), len(parameter), parameter.dtype)
    size = parameter.shape[-1]
    both = parameter.new_empty(*parameter.shape[:-1], 2 * size)
    for first, end in zip((0, size), pair, strict=True):  # copy_ casts without a tensor in between
        half = both.narrow(-1, first, size)
        half[: len(end)].copy_(end)
        half[len(end) :].copy_(parameter[len(end) :])  # vocabulary rows that only the donor has
    return Mixed(both, rows)


def _whole(end: Tensor, live: Tensor) -> Tensor:
    """`end` with the vocabulary rows that only the donor has."""
    return end if end.shape == live.shape else torch.cat([end, live.detach()[len(end) :]])
