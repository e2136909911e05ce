"""Weights whose λ depends on the row of the batch that they are applied to.

They take part in torch's operations (`__torch_function__`) in place of tensors, so that transformers' own layers run
with them. What a layer does with a weight beyond linear operations raises `NotImplementedError`. Knows no model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

SMALL = 1 << 20
"""Matrices of up to this many elements are multiplied faster on CPU if they lie in memory column by column."""


class RowLambdas:
    """The λ of the rows of the present forward pass, shared by all weights of a model."""

    def __init__(self) -> None:
        self.lams: Tensor | None = None
        """float32 `[n]` for inputs whose first dimension is n, or n times the number of tokens per row."""
        self._instruct = self._change = torch.zeros(0)
        """All vectors of the model one after the other: those of Instruct, and Thinking − Instruct, float32."""
        self._sizes: list[int] = []
        self._derived: dict[Any, Any] = {}
        """What follows from `lams`, by the shapes and dtypes that it is used for."""
        self._input: Tensor | None = None
        """The latest input of a product, with what was computed from it: `doubled`, and the `outputs` of `_joined`."""
        self._doubled: Tensor | None = None
        self._joined: Joined | None = None
        self._outputs: Sequence[Tensor] = ()

    def set(self, lams: Tensor) -> None:
        """Gives the rows of the next forward pass their λ, float32 `[n]`. For the same tensor as before, what was
        derived from it is used again."""
        if lams is not self.lams:
            self.lams, self._derived = lams, {}
        self._forget()

    def _forget(self) -> None:
        self._input = self._doubled = self._joined = None
        self._outputs = ()

    @contextmanager
    def only(self, rows: Tensor, total: int) -> Iterator[None]:
        """Inside, inputs are those of `rows` (int64 `[m]`) of a flattened input with `total` rows."""
        before = self.lams, self._derived
        assert self.lams is not None
        self.set(self._per_token(self.lams, total)[rows])
        try:
            yield
        finally:
            self.lams, self._derived = before
            self._forget()

    def column(self, like: Tensor) -> Tensor:
        """The λ of each row of `like`, in its dtype: `[n, 1, …]` with as many dimensions."""
        key = "column", like.shape[0], like.dim(), like.dtype
        found = self._derived.get(key)
        if found is None:
            assert self.lams is not None, "set comes before a forward pass"
            found = self._per_token(self.lams, like.shape[0]).view(-1, *[1] * (like.dim() - 1)).to(like.dtype)
            self._derived[key] = found
        return found

    def doubled(self, x: Tensor) -> Tensor:
        """[(1−λ)·x, λ·x], `[…, 2·K]` for x `[…, K]`. The products that share an input share this, too."""
        if self._input is not x or self._doubled is None:
            self._forget()
            key = "shares", x.shape[0], x.dim(), x.dtype
            shares = self._derived.get(key)
            if shares is None:
                lams = self.column(x)
                shares = self._derived[key] = torch.stack([1 - lams, lams], -2)  # [n, 1, …, 2, 1]
            doubled: Tensor = (x.unsqueeze(-2) * shares).flatten(-2)
            self._input, self._doubled = x, doubled
            return doubled
        return self._doubled

    def outputs(self, x: Tensor, joined: Joined) -> Sequence[Tensor]:
        """The products of x with each of the weights of `joined`, computed once for all of them."""
        if self._input is not x or self._joined is not joined:
            self._outputs = F.linear(self.doubled(x), joined.whole.ends).split(joined.sizes, -1)
            self._joined = joined
        return self._outputs

    def add_vector(self, instruct: Tensor, thinking: Tensor) -> int:
        """Appends a vector `[K]` to those that are mixed together; returns its number."""
        instruct = instruct.float()
        self._instruct = torch.cat([self._instruct.to(instruct.device), instruct])
        self._change = torch.cat([self._change.to(instruct.device), thinking.float() - instruct])
        self._sizes.append(len(instruct))
        return len(self._sizes) - 1

    def vector(self, number: int, like: Tensor, dtype: torch.dtype) -> Tensor:
        """That vector for each row of `like` `[n, …, K]`: `[n, 1, …, K]`, mixed in float32."""
        key = "vectors", like.shape[0], like.dim(), dtype
        every = self._derived.get(key)
        if every is None:
            assert self.lams is not None, "set comes before a forward pass"
            lams = self._per_token(self.lams, like.shape[0]).view(-1, *[1] * (like.dim() - 1))
            mixed = torch.addcmul(self._instruct, self._change, lams).to(dtype)
            every = self._derived[key] = mixed.split(self._sizes, -1)
        return every[number]

    def _per_token(self, lams: Tensor, count: int) -> Tensor:
        tokens, rest = divmod(count, len(lams))
        if rest:
            raise NotImplementedError(f"an input of {count} rows in a batch of {len(lams)}")
        return lams if tokens == 1 else lams.repeat_interleave(tokens)


class RowWeight:
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


class Mixed(RowWeight):
    """λ·thinking + (1−λ)·instruct of a matrix, or of a stack of matrices, whose λ depends on the row it is applied to.

    Holds both ends side by side in their last dimension: `ends` `[…, 2·K]` for a weight `[…, K]`.
    """

    def __init__(self, ends: Tensor, rows: RowLambdas) -> None:
        self.ends, self.rows = ends, rows
        self.shape = torch.Size([*ends.shape[:-1], ends.shape[-1] // 2])
        self.dtype, self.device = ends.dtype, ends.device

    def to(self, dtype: Any = None, **_: Any) -> Mixed:
        return self if dtype in (None, self.dtype) else Mixed(self.ends.to(dtype), self.rows)

    def order_for_products(self) -> None:
        """Lays the matrix out in the order in which `linear` is fastest."""
        if self.device.type == "cpu" and self.ends.numel() <= SMALL:
            self.ends = self.ends.t().contiguous().t()

    def __getitem__(self, index: int | Tensor) -> Mixed:
        if self.ndim < 3 or not (isinstance(index, int) or index.dim() == 0):
            raise NotImplementedError("indexing a weight other than by its expert")
        return Mixed(self.ends[index], self.rows)

    def squeeze(self, dim: int) -> Mixed:
        return Mixed(self.ends.squeeze(dim), self.rows)

    def unsqueeze(self, dim: int) -> Mixed:
        return Mixed(self.ends.unsqueeze(dim), self.rows)


class MixedVector(RowWeight):
    """The same of a vector `[K]`, times `scale` plus `shift`: a norm's gains or a bias, mixed elementwise per row."""

    def __init__(
        self, rows: RowLambdas, number: int, size: int, dtype: torch.dtype, scale: float = 1.0, shift: float = 0.0
    ) -> None:
        self.rows, self._number = rows, number
        self.shape, self.dtype, self.device = torch.Size([size]), dtype, rows._instruct.device
        self._scale, self._shift = scale, shift

    def to(self, dtype: Any = None, **_: Any) -> MixedVector:
        if dtype in (None, self.dtype):
            return self
        return MixedVector(self.rows, self._number, self.shape[0], dtype, self._scale, self._shift)

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, int | float):
            return MixedVector(
                self.rows, self._number, self.shape[0], self.dtype, self._scale * other, self._shift * other
            )
        return other * self.per_row(other)

    def __add__(self, other: Any) -> Any:
        if isinstance(other, int | float):
            return MixedVector(self.rows, self._number, self.shape[0], self.dtype, self._scale, self._shift + other)
        return other + self.per_row(other)

    __rmul__, __radd__ = __mul__, __add__

    def per_row(self, like: Tensor) -> Tensor:
        """This vector for each row of `like` `[n, …, K]`: `[n, 1, …, K]`."""
        found = self.rows.vector(self._number, like, self.dtype)
        if self._scale != 1.0:
            found = found * self._scale
        return found + self._shift if self._shift else found

    def exp(self) -> _Exponential:
        return _Exponential(self)


class _Exponential(RowWeight):
    """The exponential of a vector times `sign`: how fast the states of a linear attention decay."""

    def __init__(self, vector: MixedVector, sign: int = 1) -> None:
        self._vector, self._sign = vector, sign
        self.shape, self.dtype, self.device = vector.shape, vector.dtype, vector.device

    def __neg__(self) -> _Exponential:
        return _Exponential(self._vector, -self._sign)

    def __mul__(self, other: Tensor) -> Tensor:
        return other * (self._sign * self._vector.per_row(other).exp())

    __rmul__ = __mul__


def row_linear(x: Tensor, weight: Mixed, bias: MixedVector | None = None) -> Tensor:
    y = F.linear(weight.rows.doubled(x), weight.ends)
    return y if bias is None else y.add_(bias.per_row(y))


class Joined:
    """Matrices that are applied to the same input, as one matrix, of which theirs become views."""

    def __init__(self, weights: Sequence[Mixed]) -> None:
        self.sizes = [weight.shape[0] for weight in weights]
        self.whole = Mixed(torch.cat([weight.ends for weight in weights]), weights[0].rows)
        self.whole.order_for_products()
        for weight, ends in zip(weights, self.whole.ends.split(self.sizes), strict=True):
            weight.ends = ends


def joint_linear(x: Tensor, joined: Joined, index: int, bias: MixedVector | None) -> Tensor:
    y = joined.whole.rows.outputs(x, joined)[index]
    return y if bias is None else y + bias.per_row(y)


def _embedding(ids: Tensor, weight: Mixed, *args: Any, **kwargs: Any) -> Tensor:
    instruct, thinking = F.embedding(ids, weight.ends).float().chunk(2, -1)
    return torch.lerp(instruct, thinking, weight.rows.column(instruct)).to(weight.dtype)


def _conv1d(x: Tensor, weight: Mixed, bias: MixedVector | None = None, **options: Any) -> Tensor:
    instruct, thinking = (F.conv1d(x, end, **options) for end in weight.ends.chunk(2, -1))
    y = torch.lerp(instruct, thinking, weight.rows.column(x))
    return y if bias is None else y + bias.per_row(y.transpose(1, 2)).transpose(1, 2)


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
    "linear": row_linear,
    "embedding": _embedding,
    "conv1d": _conv1d,
    "rms_norm": _rms_norm,
    "layer_norm": _layer_norm,
    **dict.fromkeys(("mul", "__mul__", "__rmul__"), _multiply),
    **dict.fromkeys(("add", "__add__", "__radd__"), _add),
}
