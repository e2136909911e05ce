"""The difference of a pair in low rank: Thinking − Instruct ≈ B·A for every linear layer, by truncated SVD.

Plans which tensors get factors, computes them one tensor at a time, and measures what the truncation loses. Knows
neither files of adapters (adapter.py) nor engines.
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
"""Matrices whose smaller side is at most this get an exact SVD: under a second at 512 × 2,048, ten at 1,024 × 4,096."""
POWER_ITERATIONS = 4
"""Of the randomized SVD (Halko, Martinsson, Tropp 2011, arXiv 0909.4061, algorithm 4.4)."""
PIECE = 1 << 19
"""Elements read at a time."""
_ROUTER = re.compile(r"\.(gate|router|shared_expert_gate)\.")
_TRANSPOSED = {"gpt2", "openai-gpt"}  # their Conv1D keeps weights as [in, out]
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TwoSided(Protocol):
    """What this file needs of one of a pair's tensors."""

    @property
    def name(self) -> str: ...
    @property
    def instruct(self) -> TensorInfo: ...
    @property
    def thinking(self) -> TensorInfo: ...
    @property
    def shared(self) -> int:
        """Leading elements that both sides have."""
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
    """What an extraction will do; made from headers alone."""

    pair: Pair
    rank: int
    """As asked for; a matrix with a smaller side has that side as its rank."""
    dtype: str
    """Of the stored factors: float32, bfloat16 or float16."""
    selection: Coefficients
    """1 on the parameters that were asked for, 0 elsewhere."""
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
    """Sums over one or several tensors; squared Frobenius norms."""

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
    """By tensor name: the linear weights with factors."""
    rest: dict[str, tuple[str, float]]
    """By tensor name: why it has no factors, and its ‖Δ‖²."""
    stored_whole: frozenset[str] = frozenset()
    """Tensors of `rest` of which the adapter holds Thinking's own values."""

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
        """By (layer, module kind); layer None = outside the blocks."""
        groups: dict[tuple[int | None, ModuleKind], list[Loss]] = defaultdict(list)
        for name, loss in self.factors.items():
            groups[layer_of(name), module_kind(name)].append(loss)
        ordered = sorted(groups, key=lambda cell: (cell[0] is None, cell[0] or 0, cell[1]))
        return {cell: _sum(groups[cell]) for cell in ordered}

    def kinds(self) -> dict[ModuleKind, Loss]:
        """By module kind, over all layers."""
        groups: dict[ModuleKind, list[Loss]] = defaultdict(list)
        for name, loss in self.factors.items():
            groups[module_kind(name)].append(loss)
        return {kind: _sum(losses) for kind, losses in sorted(groups.items())}

    def rest_shares(self) -> dict[str, float]:
        """By reason: the share of ‖Δ‖² that has no factors, 0 to 1."""
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
    """Plan the factors of a checked pair, opened with the Instruct side as donor: it is the adapter's base model.

    Every 2-D weight of a linear layer inside `layers` and `modules` gets factors of `rank`, or of its smaller side.
    `exact` computes every SVD in full.

    Raises:
        MullError: the rank is below 1 or above the experts' smaller side, the dtype unknown, the selection matches
            nothing or nothing with two dimensions, or the model keeps its linear weights transposed.
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
        if rank > side and ".experts." in tensor.name:  # PEFT fuses experts, and ranks of their own get lost
            raise MullError(f"rank {rank} is above the smaller side of the experts, {side}", f"take at most {side}")
        small = exact or side <= max(EXACT_SIDE, _sketch(min(rank, side)))
        factors.append(PlannedFactors(tensor, min(rank, side), "exact" if small else "randomized"))
    if not factors:
        raise MullError("the selection holds no weight of a linear layer", "select attention, ffn or lm_head")
    return LowRankPlan(pair, rank, dtype, selection, factors, rest)


def factorise(delta: Tensor, rank: int, method: Method, seed: int = 0) -> tuple[Tensor, Tensor, float]:
    """A `[rank, in]` and B `[out, rank]` with B·A ≈ `delta` `[out, in]` (float32), and Σσᵢ² of what is kept.

    The best approximation of that rank in the Frobenius norm (Eckart and Young 1936), or, "randomized", close to it.
    Balanced: √σᵢ on each side. The same `seed` gives the same factors.
    """
    if method == "exact":
        u, s, vh = torch.linalg.svd(delta, full_matrices=False)
    else:
        with torch.random.fork_rng(devices=[]):  # torch draws its sketch from the global generator
            torch.manual_seed(seed)
            u, s, v = torch.svd_lowrank(delta, q=_sketch(rank), niter=POWER_ITERATIONS)
        vh = v.mT
    root = s[:rank].sqrt()
    kept = s[:rank].double().square().sum().item()
    return (root[:, None] * vh[:rank]).contiguous(), (u[:, :rank] * root).contiguous(), kept


def seed_of(name: str) -> int:
    """The seed of a tensor's randomized SVD: its own, so that a selection does not change the factors of the rest."""
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
    """‖Thinking − Instruct‖² over the rows that both sides have, without holding the difference."""
    return sum(squared_norm(piece) for _, piece in _pieces(files, tensor, buffers))


def _pieces(files: Files, tensor: TwoSided, buffers: tuple[Buffer, Buffer]) -> Iterator[tuple[int, Tensor]]:
    wide = torch.float64 if "F64" in (tensor.instruct.dtype, tensor.thinking.dtype) else torch.float32
    for first in range(0, tensor.shared, PIECE):
        count = min(PIECE, tensor.shared - first)
        i = files.elements(tensor.instruct, first, count, buffers[0])
        t = files.elements(tensor.thinking, first, count, buffers[1])
        delta = (t.to(wide) - i.to(wide)).float()
        files.check((tensor.instruct.file, tensor.thinking.file))
        yield first, delta


def _sketch(rank: int) -> int:
    """Columns of the randomized SVD's sketch: twice the rank, as the spectra of fine-tuning decay slowly."""
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
