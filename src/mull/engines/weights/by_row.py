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
from functools import partial
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
        self._instruct = self._change = torch.zeros(0)
        """All vectors of the model one after the other: those of Instruct, and Thinking − Instruct, float32."""
        self._columns: dict[tuple[int, int], Tensor] = {}
        self._shares: dict[tuple[int, int], Tensor] = {}
        """Of `column` and `doubled`, by the number of rows and of dimensions."""
        self._vectors: dict[tuple[int, torch.dtype], Tensor] = {}
        self._input: Tensor | None = None
        self._doubled: Tensor | None = None

    def set(self, lams: Tensor) -> None:
        """Gives the rows of the next forward pass their λ, float32 `[n]`."""
        self.lams, self._input, self._doubled = lams, None, None
        self._columns, self._shares, self._vectors = {}, {}, {}

    @contextmanager
    def only(self, rows: Tensor, total: int) -> Iterator[None]:
        """Inside, inputs are those of `rows` (int64 `[m]`) of a flattened input with `total` rows."""
        before = self.lams
        assert before is not None
        self.set(self._per_token(before, total)[rows])
        try:
            yield
        finally:
            self.set(before)

    def column(self, like: Tensor) -> Tensor:
        """The λ of each row of `like`, in its dtype: `[n, 1, …]` with as many dimensions."""
        key = (like.shape[0], like.dim())
        found = self._columns.get(key)
        if found is None or found.dtype != like.dtype:
            assert self.lams is not None, "set comes before a forward pass"
            found = self._per_token(self.lams, key[0]).view(-1, *[1] * (key[1] - 1)).to(like.dtype)
            self._columns[key] = found
        return found

    def doubled(self, x: Tensor) -> Tensor:
        """[(1−λ)·x, λ·x], `[…, 2·K]` for x `[…, K]`. The products that share an input share this, too."""
        if self._input is not x or self._doubled is None:
            key = (x.shape[0], x.dim())
            shares = self._shares.get(key)
            if shares is None or shares.dtype != x.dtype:
                lams = self.column(x)
                shares = self._shares[key] = torch.stack([1 - lams, lams], -2)  # [n, 1, …, 2, 1]
            self._input, self._doubled = x, (x.unsqueeze(-2) * shares).flatten(-2)
        return self._doubled

    def add_vector(self, instruct: Tensor, thinking: Tensor) -> int:
        """Appends a vector `[K]` to those that are mixed together; returns where it begins."""
        first = len(self._instruct)
        instruct = instruct.float()
        self._instruct = torch.cat([self._instruct.to(instruct.device), instruct])
        self._change = torch.cat([self._change.to(instruct.device), thinking.float() - instruct])
        return first

    def vector(self, first: int, size: int, like: Tensor, dtype: torch.dtype) -> Tensor:
        """The vector at `first` for each row of `like` `[n, …]`: `[n, 1, …, size]`, mixed in float32."""
        count, dimensions = like.shape[0], like.dim()
        every = self._vectors.get((count, dtype))
        if every is None:
            assert self.lams is not None, "set comes before a forward pass"
            lams = self._per_token(self.lams, count)[:, None]
            every = self._vectors[count, dtype] = torch.addcmul(self._instruct, self._change, lams).to(dtype)
        return every[:, first : first + size].view(count, *[1] * (dimensions - 2), size)

    def _per_token(self, lams: Tensor, count: int) -> Tensor:
        tokens, rest = divmod(count, len(lams))
        if rest:
            raise NotImplementedError(f"an input of {count} rows in a batch of {len(lams)}")
        return lams if tokens == 1 else lams.repeat_interleave(tokens)


class _Weight:
    """What a weight with a λ per row has in common with a tensor."""

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def dim(self) -> int:
        return len(self.shape)

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]

    def to(self, dtype: Any = None, **_: Any) -> Any:
        raise NotImplementedError("another dtype")

    def float(self) -> Any:
        return self.to(torch.float32)

    def type(self, dtype: torch.dtype) -> Any:
        return self.to(dtype)

    def type_as(self, other: Tensor) -> Any:
        return self.to(other.dtype)

    @classmethod
    def __torch_function__(
        cls, func: Callable, types: Sequence[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        implementation = _FUNCTIONS.get(getattr(func, "__name__", ""))
        if implementation is None:
            raise NotImplementedError(f"{getattr(func, '__name__', func)} of a weight with a λ per row")
        return implementation(*args, **(kwargs or {}))


class Mixed(_Weight):
    """λ·thinking + (1−λ)·instruct of a matrix, or of a stack of matrices, whose λ depends on the row it is applied to.

    Holds both ends side by side in their last dimension: `ends` `[…, 2·K]` for a weight `[…, K]`.
    """

    def __init__(self, ends: Tensor, rows: RowLambdas) -> None:
        self.ends, self.rows = ends, rows
        self.shape = torch.Size([*ends.shape[:-1], ends.shape[-1] // 2])
        self.dtype, self.device = ends.dtype, ends.device

    def to(self, dtype: Any = None, **_: Any) -> Mixed:
        return self if dtype in (None, self.dtype) else Mixed(self.ends.to(dtype), self.rows)

    def __getitem__(self, index: int | Tensor) -> Mixed:
        if self.ndim < 3 or not (isinstance(index, int) or index.dim() == 0):
            raise NotImplementedError("indexing a weight other than by its expert")
        return Mixed(self.ends[index], self.rows)


class MixedVector(_Weight):
    """The same of a vector `[K]`, times `scale` plus `shift`: a norm's gains or a bias, mixed elementwise per row."""

    def __init__(
        self, rows: RowLambdas, first: int, size: int, dtype: torch.dtype, scale: float = 1.0, shift: float = 0.0
    ) -> None:
        self.rows, self._first = rows, first
        self.shape, self.dtype, self.device = torch.Size([size]), dtype, rows._instruct.device
        self._scale, self._shift = scale, shift

    def to(self, dtype: Any = None, **_: Any) -> MixedVector:
        if dtype in (None, self.dtype):
            return self
        return MixedVector(self.rows, self._first, self.shape[0], dtype, self._scale, self._shift)

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, int | float):
            return MixedVector(
                self.rows, self._first, self.shape[0], self.dtype, self._scale * other, self._shift * other
            )
        return other * self.per_row(other)

    def __add__(self, other: Any) -> Any:
        if isinstance(other, int | float):
            return MixedVector(self.rows, self._first, self.shape[0], self.dtype, self._scale, self._shift + other)
        return other + self.per_row(other)

    __rmul__, __radd__ = __mul__, __add__

    def per_row(self, like: Tensor) -> Tensor:
        """This vector for each row of `like` `[n, …, K]`: `[n, 1, …, K]`."""
        found = self.rows.vector(self._first, self.shape[0], like, self.dtype)
        if self._scale != 1.0:
            found = found * self._scale
        return found + self._shift if self._shift else found


def _linear(x: Tensor, weight: Mixed, bias: MixedVector | None = None) -> Tensor:
    y = F.linear(weight.rows.doubled(x), weight.ends)
    return y if bias is None else y.add_(bias.per_row(y))


def _embedding(ids: Tensor, weight: Mixed, *args: Any, **kwargs: Any) -> Tensor:
    instruct, thinking = F.embedding(ids, weight.ends).float().chunk(2, -1)
    return torch.lerp(instruct, thinking, weight.rows.column(instruct)).to(weight.dtype)


def _multiply(a: Any, b: Any) -> Any:
    return a * b if isinstance(a, MixedVector) else b * a


def _add(a: Any, b: Any) -> Any:
    return a + b if isinstance(a, MixedVector) else b + a


def _rms_norm(x: Tensor, shape: Sequence[int], weight: MixedVector | None = None, eps: float | None = None) -> Tensor:
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
    **dict.fromkeys(("mul", "__mul__", "__rmul__"), _multiply),
    **dict.fromkeys(("add", "__add__", "__radd__"), _add),
}


def row_experts(self: Any, hidden: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
    """A mixture of experts by rows: `hidden` `[tokens, H]`, chosen experts and their weights `[tokens, k]`.

    Gate and up are mixed before the activation. Raises `NotImplementedError` for experts of another layout.
    """
    if self.has_bias or self.is_transposed or not self.has_gate or self.has_post_expert_norm:
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
    mixed: dict[int, _Weight] = {}
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
        if type(module) is torch.nn.Linear:
            # The same without the way through torch's dispatch, which costs as much as a small product.
            module.forward = partial(_linear, weight=module.weight, bias=module.bias)  # type: ignore[arg-type]
        elif fused:
            module.forward = partial(_scaled_rms, weight=module.weight, eps=module.variance_epsilon)  # type: ignore[arg-type]
    model.config._experts_implementation = EXPERTS
    return rows


def _is_plain_rms_norm(module: torch.nn.Module) -> bool:
    """Whether a layer is w·x/√(mean x² + ε), as its results say: torch computes that in one operation."""
    parameters = dict(module.named_parameters(recurse=False))
    if set(parameters) != {"weight"} or not hasattr(module, "variance_epsilon") or parameters["weight"].dim() != 1:
        return False
    weight = parameters["weight"]
    x = torch.linspace(-2, 3, 2 * len(weight), device=weight.device, dtype=weight.dtype).view(2, 1, -1)
    normed = F.rms_norm(x.float(), [len(weight)], None, float(module.variance_epsilon)).to(x.dtype)  # type: ignore[arg-type]
    return torch.allclose(module(x), weight * normed, rtol=1e-5 if x.dtype == torch.float32 else 2e-2, atol=1e-6)


def _scaled_rms(x: Tensor, weight: MixedVector, eps: float) -> Tensor:
    exact = x.float()
    length = torch.linalg.vector_norm(exact, dim=-1, keepdim=True)
    # On CPU these take a third of the time of torch's own rms_norm, which is several passes there.
    normed = (exact * (length * length).div_(x.shape[-1]).add_(eps).rsqrt_()).to(x.dtype)
    return normed * weight.per_row(normed)


def _mixed(parameter: Tensor, ends: LiveParameter, rows: RowLambdas) -> _Weight:
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
