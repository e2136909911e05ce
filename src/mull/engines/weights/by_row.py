"""A model in which every row of a batch has its own λ, without merged copies.

Each layer is linear in its weights, so with the ends W_I and W_T a row b with λ_b needs
y_b = (1−λ_b)·W_I·x_b + λ_b·W_T·x_b, which is one product of [(1−λ_b)·x_b, λ_b·x_b] with [W_I, W_T]: the work and the
weights of two models, whatever the number of different λ. Norm gains, biases and embeddings are mixed elementwise per
row, in float32. The result is Θ(λ) = λ·Thinking + (1−λ)·Instruct without the rounding of a merged checkpoint.

The layers are transformers' own: each weight is replaced by a `Mixed`, an object that takes part in torch's operations
(`__torch_function__`) in place of a tensor. What a layer does with a weight beyond linear operations raises
`NotImplementedError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from mull.engines.weights.combining import LiveParameter

EXPERTS = "mull_rows"
"""Name of `row_experts` among transformers' experts implementations."""


class RowLambdas:
    """The λ of the rows of the present forward pass, shared by all weights of a model."""

    def __init__(self) -> None:
        self.lams: Tensor | None = None
        """float32 `[n]` for inputs whose first dimension is n, or n times the number of tokens per row."""
        self._input: Tensor | None = None
        self._doubled: Tensor | None = None

    def set(self, lams: Tensor) -> None:
        """Gives the rows of the next forward pass their λ, float32 `[n]`."""
        self.lams, self._input, self._doubled = lams, None, None

    @contextmanager
    def only(self, rows: Tensor, total: int) -> Iterator[None]:
        """Inside, inputs are those of `rows` (int64 `[m]`) of a flattened input with `total` rows."""
        before = self.lams
        self.set(self._per_token(total)[rows])
        try:
            yield
        finally:
            assert before is not None
            self.set(before)

    def column(self, like: Tensor) -> Tensor:
        """The λ of each row of `like`, float32 `[n, 1, …]` with as many dimensions."""
        return self._per_token(like.shape[0]).view(-1, *[1] * (like.dim() - 1))

    def doubled(self, x: Tensor) -> Tensor:
        """[(1−λ)·x, λ·x], `[…, 2·K]` for x `[…, K]`. The products that share an input share this, too."""
        if self._input is not x or self._doubled is None:
            share = x * self.column(x).to(x.dtype)
            self._input, self._doubled = x, torch.cat([x - share, share], -1)
        return self._doubled

    def _per_token(self, count: int) -> Tensor:
        assert self.lams is not None, "set comes before a forward pass"
        tokens, rest = divmod(count, len(self.lams))
        if rest:
            raise NotImplementedError(f"an input of {count} rows in a batch of {len(self.lams)}")
        return self.lams if tokens == 1 else self.lams.repeat_interleave(tokens)


class Mixed:
    """λ·thinking + (1−λ)·instruct, of a weight whose λ depends on the row it is applied to.

    Holds both ends side by side in their last dimension: `ends` `[…, 2·K]` for a weight `[…, K]`.
    """

    def __init__(self, ends: Tensor, rows: RowLambdas) -> None:
        self.ends, self._rows = ends, rows

    @classmethod
    def of(cls, instruct: Tensor, thinking: Tensor, rows: RowLambdas) -> Mixed:
        """From the two ends, both `[…, K]`; copied."""
        return cls(torch.cat([instruct, thinking], -1), rows)

    dtype = property(lambda self: self.ends.dtype)
    device = property(lambda self: self.ends.device)
    ndim = property(lambda self: self.ends.ndim)

    @property
    def shape(self) -> torch.Size:
        return torch.Size([*self.ends.shape[:-1], self.ends.shape[-1] // 2])

    def dim(self) -> int:
        return self.ends.dim()

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]

    def to(self, *args: Any, **kwargs: Any) -> Mixed:
        return Mixed(self.ends.to(*args, **kwargs), self._rows)

    def float(self) -> Mixed:
        return self.to(torch.float32)

    def type(self, dtype: torch.dtype) -> Mixed:
        return self.to(dtype)

    def type_as(self, other: Tensor) -> Mixed:
        return self.to(other.dtype)

    def __getitem__(self, index: int | Tensor) -> Mixed:
        if self.ends.dim() < 2 or not (isinstance(index, int) or index.dim() == 0):
            raise NotImplementedError("indexing a weight other than by its first dimension")
        return Mixed(self.ends[index], self._rows)

    def __mul__(self, other: Any) -> Any:
        return _scale(self, other)

    def __add__(self, other: Any) -> Any:
        return _shift(self, other)

    __rmul__, __radd__ = __mul__, __add__

    def per_row(self, like: Tensor) -> Tensor:
        """This vector `[K]` for each row of `like` `[n, …, K]`: `[n, 1, …, K]`, mixed in float32, in its dtype."""
        if self.ends.dim() != 1:
            raise NotImplementedError("elementwise use of a matrix of weights")
        instruct, thinking = self.ends.float().chunk(2)
        return torch.lerp(instruct, thinking, self._rows.column(like)).to(self.ends.dtype)

    @classmethod
    def __torch_function__(
        cls, func: Callable, types: Sequence[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        implementation = _FUNCTIONS.get(getattr(func, "__name__", ""))
        if implementation is None:
            raise NotImplementedError(f"{getattr(func, '__name__', func)} of a weight with a λ per row")
        return implementation(*args, **(kwargs or {}))


def _linear(x: Tensor, weight: Mixed, bias: Mixed | None = None) -> Tensor:
    y = F.linear(weight._rows.doubled(x), weight.ends)
    return y if bias is None else y.add_(bias.per_row(y))


def _embedding(ids: Tensor, weight: Mixed, *args: Any, **kwargs: Any) -> Tensor:
    instruct, thinking = F.embedding(ids, weight.ends).chunk(2, -1)
    lams = weight._rows.column(instruct)
    return torch.lerp(instruct.float(), thinking.float(), lams).to(weight.ends.dtype)


def _scale(a: Any, b: Any) -> Any:
    weight, other = (a, b) if isinstance(a, Mixed) else (b, a)
    if isinstance(other, int | float):
        return Mixed(weight.ends * other, weight._rows)
    return other * weight.per_row(other)


def _shift(a: Any, b: Any) -> Any:
    weight, other = (a, b) if isinstance(a, Mixed) else (b, a)
    if isinstance(other, int | float):
        return Mixed(weight.ends + other, weight._rows)
    return other + weight.per_row(other)


def _rms_norm(x: Tensor, shape: Sequence[int], weight: Mixed | None = None, eps: float | None = None) -> Tensor:
    normed = F.rms_norm(x, list(shape), None, eps)
    return normed if weight is None else normed * weight.per_row(normed)


def _layer_norm(
    x: Tensor, shape: Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any
) -> Tensor:
    normed = F.layer_norm(x, list(shape), None, None, eps)
    normed = normed if weight is None else normed * weight.per_row(normed)
    return normed if bias is None else normed + bias.per_row(normed)


_FUNCTIONS: dict[str, Callable] = {
    "linear": _linear,
    "embedding": _embedding,
    "rms_norm": _rms_norm,
    "layer_norm": _layer_norm,
    **dict.fromkeys(("mul", "__mul__", "__rmul__"), _scale),
    **dict.fromkeys(("add", "__add__", "__radd__"), _shift),
}


def row_experts(self: Any, hidden: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
    """A mixture of experts by rows: `hidden` `[tokens, H]`, chosen experts and their weights `[tokens, k]`.

    Gate and up are mixed before the activation. Raises `NotImplementedError` for experts of another layout.
    """
    if self.has_bias or self.is_transposed or not self.has_gate or self.has_post_expert_norm:
        raise NotImplementedError("experts of this layout")
    rows = self.gate_up_proj._rows
    result = torch.zeros_like(hidden, dtype=torch.float32)
    for expert in top_k_index.unique().tolist():
        token, place = (top_k_index == expert).nonzero(as_tuple=True)
        with rows.only(token, hidden.shape[0]):
            gated = self._apply_gate(F.linear(hidden[token], self.gate_up_proj[expert]))
            output = F.linear(gated, self.down_proj[expert])
        result.index_add_(0, token, (output * top_k_weights[token, place, None]).float())
    return result.to(hidden.dtype)


ALL_EXPERTS_FUNCTIONS.register(EXPERTS, row_experts)


def mix_by_row(model: PreTrainedModel, parameters: Sequence[LiveParameter]) -> RowLambdas:
    """Replaces every weight of `model` by its ends, and returns what gives the rows their λ before a forward pass.

    `parameters` are the model's, with their ends. Their live tensors are freed.
    """
    rows = RowLambdas()
    mixed: dict[int, Mixed] = {}
    pointers = {parameter.live.data_ptr(): parameter for parameter in parameters}
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is None:
                continue
            if id(parameter) not in mixed:
                mixed[id(parameter)] = _mixed(parameter, pointers[parameter.data_ptr()], rows)
            del module._parameters[name]
            object.__setattr__(module, name, mixed[id(parameter)])
    model.config._experts_implementation = EXPERTS
    return rows


def _mixed(parameter: Tensor, ends: LiveParameter, rows: RowLambdas) -> Mixed:
    sides: list[Tensor] = []
    for end in (ends.instruct, ends.thinking):
        side = end.to(parameter.dtype)
        if side.shape != parameter.shape:  # vocabulary rows that only the donor has
            side = torch.cat([side, parameter.detach()[len(side) :]])
        sides.append(side)
    instruct, thinking = sides
    return Mixed.of(instruct, thinking, rows)
