"""The difference of a pair in low rank: Thinking − Instruct ≈ B·A for every linear layer, by truncated SVD.

Plans which tensors get factors, computes them one tensor at a time, and measures what the truncation loses. Knows
neither adapter files (writing.py) nor engines.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from mull.checkpoints.blocks import Buffer, Files
from mull.checkpoints.config import text_config
from mull.checkpoints.headers import FLOATING, TensorInfo
from mull.checkpoints.names import ModuleKind, layer_of, module_kind
from mull.checkpoints.pair import Pair
from mull.errors import MullError
from mull.merging.coefficients import Coefficients
from mull.merging.coefficients.rules import Layers

Method = Literal["exact", "randomized"]

EXACT_SIDE = 512
"""A matrix whose smaller side is at most this gets an exact SVD: under 1 s for 512 × 2,048, 10 s for 1,024 × 4,096."""
POWER_ITERATIONS = 4
"""Of the randomized SVD (Halko, Martinsson, Tropp 2011, arXiv 0909.4061, algorithm 4.4)."""
PIECE = 1 << 19
"""Elements read at a time."""
_ROUTER = re.compile(r"\.(gate|router|shared_expert_gate)\.")
_TRANSPOSED = {"gpt2", "openai-gpt"}  # their Conv1D keeps weights as [in, out]
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TwoSided(Protocol):
    """The attributes of an aligned tensor that this file uses."""

    @property
    def name(self) -> str: ...
    @property
    def instruct(self) -> TensorInfo: ...
    @property
    def thinking(self) -> TensorInfo: ...
    @property
    def shared(self) -> int:
        """Number of elements that both sides have; they come first."""
        ...


class PlannedFactors(NamedTuple):
    """One linear weight `[out, in]` and the rank of its factors."""

    source: TwoSided
    rank: int
    method: Method

    @property
    def module(self) -> str:
        return self.source.name.removesuffix(".weight")

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self.source.instruct.shape
        return rows, columns


class Unrepresented(NamedTuple):
    """A tensor that gets no factors."""

    source: TwoSided
    reason: str
    """"norm", "bias", "embedding", "router", "3-D tensor", "not selected" or "other"."""


@dataclass(frozen=True)
class LowRankPlan:
    """What an extraction will do; made from headers, without reading tensor data."""

    pair: Pair
    rank: int
    """The requested rank; a matrix whose smaller side is below it gets that side as its rank."""
    dtype: str
    """Dtype of the stored factors: float32, bfloat16 or float16."""
    selection: Coefficients
    """1 for the selected parameters, 0 for the others."""
    factors: list[PlannedFactors]
    rest: list[Unrepresented]

    @property
    def torch_dtype(self) -> torch.dtype:
        return _DTYPES[self.dtype]

    @property
    def read_bytes(self) -> int:
        """Bytes read from both sides."""
        tensors = [factor.source for factor in self.factors] + [rest.source for rest in self.rest]
        return sum(tensor.instruct.nbytes + tensor.thinking.nbytes for tensor in tensors)


class Loss(NamedTuple):
    """Squared Frobenius norms, summed over one or several tensors."""

    delta: float
    """‖Δ‖²."""
    kept: float
    """Σσᵢ² of the singular values that were kept."""
    error: float
    """‖Δ − B·A‖² with B and A as stored, after rounding to their dtype."""

    @property
    def kept_share(self) -> float:
        """Σσᵢ²(kept) / ‖Δ‖², 0 to 1; NaN where the two sides are equal."""
        return self.kept / self.delta if self.delta else float("nan")

    @property
    def relative_error(self) -> float:
        """‖Δ − B·A‖ / ‖Δ‖; NaN where the two sides are equal."""
        return (self.error / self.delta) ** 0.5 if self.delta else float("nan")


@dataclass(frozen=True)
class Fidelity:
    """How much of Δ = Thinking − Instruct an adapter holds."""

    factors: dict[str, Loss]
    """Linear weights with factors, by tensor name."""
    rest: dict[str, tuple[str, float]]
    """Tensors without factors, by name: the reason, and ‖Δ‖²."""
    stored_whole: frozenset[str] = frozenset()
    """Names of the tensors in `rest` for which the adapter stores Thinking's values."""

    @cached_property
    def total(self) -> float:
        """‖Δ‖² of the whole model."""
        return sum(loss.delta for loss in self.factors.values()) + sum(delta for _, delta in self.rest.values())

    @property
    def represented(self) -> Loss:
        """All tensors with factors together."""
        return _sum(self.factors.values())

    @property
    def whole_model_error(self) -> float:
        """‖Θ(1) − (Instruct + adapter)‖ / ‖Δ‖ over all tensors, those without factors included."""
        lost = sum(delta for name, (_, delta) in self.rest.items() if name not in self.stored_whole)
        return ((self.represented.error + lost) / self.total) ** 0.5 if self.total else float("nan")

    def cells(self) -> dict[tuple[int | None, ModuleKind], Loss]:
        """Loss by (layer, module kind); layer None = outside the blocks."""
        groups: dict[tuple[int | None, ModuleKind], list[Loss]] = defaultdict(list)
        for name, loss in self.factors.items():
            groups[layer_of(name), module_kind(name)].append(loss)
        ordered = sorted(groups, key=lambda cell: (cell[0] is None, cell[0] or 0, cell[1]))
        return {cell: _sum(groups[cell]) for cell in ordered}

    def kinds(self) -> dict[ModuleKind, Loss]:
        """Loss by module kind, over all layers."""
        groups: dict[ModuleKind, list[Loss]] = defaultdict(list)
        for name, loss in self.factors.items():
            groups[module_kind(name)].append(loss)
        return {kind: _sum(losses) for kind, losses in sorted(groups.items())}

    def rest_shares(self) -> dict[str, float]:
        """Share of ‖Δ‖² in tensors without factors, 0 to 1, by reason."""
        shares: dict[str, float] = defaultdict(float)
        for reason, delta in self.rest.values():
            shares[reason] += delta / self.total if self.total else 0.0
        return dict(sorted(shares.items(), key=lambda item: -item[1]))


def plan_low_rank(
    pair: Pair,
    rank: int,
    *,
    layers: Layers | None = None,
    modules: Iterable[str] | None = None,
    dtype: str = "bfloat16",
    exact: bool = False,
) -> LowRankPlan:
    """Plan the factors of a checked pair. Its donor must be the Instruct side, which is the adapter's base model.

    Every 2-D weight of a linear layer in `layers` and `modules` gets factors of `rank`, or of its smaller side if
    that is less. `exact` makes every SVD exact.

    Raises:
        MullError: the rank is below 1 or above the experts' smaller side, the dtype is unknown, the selection matches
            no parameter or no 2-D weight, or the model stores its linear weights transposed.
    """
    if rank < 1:
        raise MullError(f"rank must be at least 1, got {rank}")
    if dtype not in _DTYPES:
        raise MullError(f"unknown dtype {dtype!r}", "known: " + ", ".join(_DTYPES))
    if pair.donor_side != "instruct":
        raise MullError("an adapter is laid out like its base model", "open the pair with donor='instruct'")
    kind = text_config(pair.instruct.config).get("model_type")
    if kind in _TRANSPOSED:
        raise MullError(f"model type {kind!r} keeps its linear weights transposed", "adapters are not written for it")
    selection = Coefficients.only(1.0, layers=layers, modules=modules)
    floating = [t for t in pair.tensors if t.instruct.dtype in FLOATING and t.thinking.dtype in FLOATING]
    chosen = selection.resolve(tensor.name for tensor in pair.tensors)
    factors: list[PlannedFactors] = []
    rest: list[Unrepresented] = []
    for tensor in floating:
        reason = _obstacle(tensor) if chosen[tensor.name] else "not selected"
        if reason:
            rest.append(Unrepresented(tensor, reason))
            continue
        side = min(tensor.instruct.shape)
        if rank > side and ".experts." in tensor.name:  # PEFT fuses experts and ignores ranks that differ
            raise MullError(f"rank {rank} is above the smaller side of the experts, {side}", f"take at most {side}")
        small = exact or side <= max(EXACT_SIDE, _sketch(min(rank, side)))
        factors.append(PlannedFactors(tensor, min(rank, side), "exact" if small else "randomized"))
    if not factors:
        raise MullError("the selection holds no weight of a linear layer", "select attention, ffn or lm_head")
    return LowRankPlan(pair, rank, dtype, selection, factors, rest)


def factorise(delta: Tensor, rank: int, method: Method, seed: int = 0) -> tuple[Tensor, Tensor, float]:
    """A `[rank, in]` and B `[out, rank]` with B·A ≈ `delta` `[out, in]`, all float32, and Σσᵢ² of the kept values.

    "exact" gives the best approximation of that rank in the Frobenius norm (Eckart and Young 1936), "randomized" one
    close to it. Both A and B contain the factor √σᵢ. The same `seed` gives the same factors.
    """
    if method == "exact":
        u, s, vh = torch.linalg.svd(delta, full_matrices=False)
    else:
        with torch.random.fork_rng(devices=[]):  # svd_lowrank uses torch's global random generator
            torch.manual_seed(seed)
            u, s, v = torch.svd_lowrank(delta, q=_sketch(rank), niter=POWER_ITERATIONS)
        vh = v.mT
    root = s[:rank].sqrt()
    kept = s[:rank].double().square().sum().item()
    return (root[:, None] * vh[:rank]).contiguous(), (u[:, :rank] * root).contiguous(), kept


def seed_of(name: str) -> int:
    """Seed of the randomized SVD of tensor `name`: other tensors in the selection do not change its factors."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")


def residual(delta: Tensor, a: Tensor, b: Tensor) -> float:
    """‖Δ − B·A‖² with the factors as stored; overwrites `delta`."""
    return squared_norm(delta.addmm_(b.float(), a.float(), alpha=-1))


def squared_norm(tensor: Tensor) -> float:
    """Σx², summed in float64."""
    return torch.linalg.vector_norm(tensor, dtype=torch.float64).item() ** 2


def difference(files: Files, tensor: TwoSided, buffers: tuple[Buffer, Buffer]) -> Tensor:
    """Thinking − Instruct as float32 in the Instruct side's shape; rows that only one side has are 0."""
    delta = torch.zeros(tensor.instruct.numel)
    for first, piece in _pieces(files, tensor, buffers):
        delta[first : first + len(piece)] = piece
    return delta.view(tensor.instruct.shape)


def energy(files: Files, tensor: TwoSided, buffers: tuple[Buffer, Buffer]) -> float:
    """‖Thinking − Instruct‖² over the rows that both sides have, computed piece by piece to save memory."""
    return sum(squared_norm(piece) for _, piece in _pieces(files, tensor, buffers))


def _pieces(files: Files, tensor: TwoSided, buffers: tuple[Buffer, Buffer]) -> Iterator[tuple[int, Tensor]]:
    """(index of the first element, Thinking − Instruct as float32 `[≤ PIECE]`) of each piece."""
    dtype = torch.float64 if "F64" in (tensor.instruct.dtype, tensor.thinking.dtype) else torch.float32
    for first in range(0, tensor.shared, PIECE):
        count = min(PIECE, tensor.shared - first)
        instruct = files.elements(tensor.instruct, first, count, buffers[0])
        thinking = files.elements(tensor.thinking, first, count, buffers[1])
        delta = (thinking.to(dtype) - instruct.to(dtype)).float()
        files.check((tensor.instruct.file, tensor.thinking.file))
        yield first, delta


def _sketch(rank: int) -> int:
    """Columns of the randomized SVD's sketch: twice the rank, because singular values of fine-tuning decay slowly."""
    return max(2 * rank, rank + 16)


def _obstacle(tensor: TwoSided) -> str | None:
    """Why LoRA cannot hold this tensor, or None."""
    name, dimensions = tensor.name, len(tensor.instruct.shape)
    if dimensions > 2:
        return "3-D tensor"
    if name.endswith(".bias"):
        return "bias"
    if dimensions == 1 and "norm" in name:
        return "norm"
    if module_kind(name) == "embedding":
        return "embedding"
    if _ROUTER.search(name):
        return "router"
    return None if dimensions == 2 and name.endswith(".weight") and tensor.instruct.numel else "other"


def _sum(losses: Iterable[Loss]) -> Loss:
    losses = list(losses)
    return Loss(*(sum(loss[i] for loss in losses) for i in range(3)))
