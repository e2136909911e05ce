"""Every compiled kernel beside what stands in for it without a compiler: the same bits, whatever the values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mull.merging.arithmetic import compiled
from mull.merging.arithmetic import order_statistics as order
from mull.merging.arithmetic.angles import products_of_rows
from mull.merging.arithmetic.operations import Combination, Operation
from mull.merging.arithmetic.order_statistics import DeltaSize, Size
from mull.merging.methods import della, sce
from mull.merging.methods.slerp import RowArcs

pytestmark = pytest.mark.skipif(compiled.kernels is None, reason="mull was installed without its compiled part")
LEVELS = {"AVX2 or Arm": 0, "AVX-512": 1, "VBMI2": 2}
COUNTS = (0, 1, 5, 256, 1000, 4099)
FINITE, ANY = 0x7F80, 0x8000


@pytest.fixture(autouse=True, params=LEVELS)
def level(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each of the variants that this processor runs."""
    wanted = LEVELS[request.param]
    if compiled.kernels.use(wanted) < wanted:
        pytest.skip(f"this processor has no {request.param}")
    yield
    compiled.kernels.use(max(LEVELS.values()))


def numbers(count: int, many: int, below: int, seed: int = 0, least: int = 0x3000) -> list[Tensor]:
    """bfloat16 of sizes from tiny to huge, of both signs, where equals are frequent; `below` ANY: also inf and NaN."""
    generator = torch.Generator().manual_seed(seed)
    odd = torch.rand(many, count, generator=generator)
    bits = torch.randint(0x3F00, 0x4000, (many, count), generator=generator)
    bits = torch.where(odd < 0.3, torch.randint(least, 0x4A00, bits.shape, generator=generator), bits)
    bits = torch.where(odd < 0.05, torch.randint(0x7F00, below, bits.shape, generator=generator), bits)
    bits = torch.where(odd > 0.9, 0, bits)
    bits += 0x8000 * torch.randint(0, 2, bits.shape, generator=generator)
    made = bits.to(torch.uint16).view(torch.bfloat16)
    made[1:] = torch.where(torch.rand(many - 1, count, generator=generator) < 0.2, made[:1], made[1:])
    return [*made.clone()]


def both(function: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """What it gives with the kernels and without."""
    with_kernels = function()
    with monkeypatch.context() as patch:
        patch.setattr(compiled, "kernels", None)
        return with_kernels, function()


def same(left: Tensor, right: Tensor) -> bool:
    """The same bits; one NaN is as good as another."""
    nan = left.isnan()
    as_bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[left.itemsize]
    return torch.equal(nan, right.isnan()) and torch.equal(left[~nan].view(as_bits), right[~nan].view(as_bits))


def applied(operation: Operation, models: list[Tensor], base: Tensor | None, first: int = 0) -> Callable[[], Tensor]:
    def merged() -> Tensor:
        out = torch.empty_like(models[0])
        operation.apply(models, base, out, first)
        return out

    return merged


SUMS: list[dict[str, Any]] = [
    {"factors": (1.0, 1.0)}, {"factors": (0.3, -0.9), "mean": True}, {"factors": (1.0, 1.0), "elect": True},
    {"factors": (1.0, 1.0), "elect": True, "mean": True}, {"factors": (0.7, -0.7), "elect": True, "mean": True},
    {"factors": (0.0, 3.0), "elect": True, "mean": True}, {"factors": (-0.7, -0.3), "elect": True, "mean": True},
    {"factors": (-2.0, 0.5), "elect": True, "mean": True}, {"factors": (0.5, 0.5), "mean": True},
    {"factors": (1e30, 3.0), "weights": (0.5, 0.0), "mean": True},
    {"factors": (1e300, -1e300)}, {"factors": (1e300, 1e300), "elect": True, "mean": True},
    {"factors": (1.0, -3.0, 0.5), "elect": True, "mean": True}, {"factors": (0.2, 0.2, 0.6)}, {"factors": (-2.0,)},
    {"factors": (1.0,) * 16, "elect": True},
]  # fmt: skip
DROPS: list[dict[str, Any]] = [
    {}, {"keep": 1 << 30, "key": 0x123456789ABCDEF0}, {"lows": 0.25}, {"lows": 0.3}, {"lows": 0.25, "highs": 1.0},
    {"lows": 0.25, "keep": 1 << 31, "key": 7},
]  # fmt: skip


@pytest.mark.parametrize("drops", DROPS, ids=str)
@pytest.mark.parametrize("sums", SUMS, ids=str)
@pytest.mark.parametrize("based", [True, False])
def test_combinations(sums: dict, drops: dict, based: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    many = len(sums["factors"])
    bounds = {name: (drops[name],) * many for name in ("lows", "highs") if name in drops}
    for count, below in itertools.product(COUNTS, (FINITE, ANY)):
        *models, base = numbers(count, many + 1, below, seed=count)
        for scale, first in ((1.0, 0), (-0.37, (1 << 34) - 8)):
            operation = Combination(**sums, **{**drops, **bounds}, scale=scale)

            assert same(*both(applied(operation, models, base if based else None, first), monkeypatch)), (count, scale)


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("lows", [(), (0.25, 0.5)])
def test_a_combination_may_overwrite_an_input(place: int, lows: tuple[float, ...]) -> None:
    *models, base = numbers(1000, 3, FINITE)
    operation = Combination((1.0, 0.5), lows=lows, elect=True, mean=True)
    wanted = torch.empty_like(base)
    operation.apply(models, base, wanted, 0)
    operation.apply(models, base, [*models, base][place], 0)
    assert same([*models, base][place], wanted)


@pytest.mark.parametrize("based", [True, False])
@pytest.mark.parametrize("many", [1, 2, 3, 16])
def test_products_of_rows(many: int, based: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for rows, length in ((1, 5000), (7, 256), (9, 33), (400, 1), (3, 800), (0, 8), (2, 1 << 16 if many < 4 else 8)):
        *models, base = numbers(rows * length, many + 1, FINITE, seed=length, least=0x3C00)

        def multiplied(*given: Any) -> Tensor:
            return torch.from_numpy(products_of_rows(*given))

        left, right = both(partial(multiplied, models, base if based else None, length), monkeypatch)
        assert same(left, right), (rows, length)
        vectors = torch.stack([model.double() - base.double() * based for model in models]).view(many, rows, length)
        exact = torch.einsum("irl,jrl->rij", vectors, vectors)[:, *torch.triu_indices(many, many)]
        assert torch.allclose(left, exact, rtol=1e-13, atol=1e-13 * float(exact.abs().max()) if rows else 0)


@pytest.mark.parametrize("based", [True, False])
@pytest.mark.parametrize("length", [1, 16, 256, 300, 1027])
def test_rows_along_their_arcs(length: int, based: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for below, lam in itertools.product((FINITE, ANY), (0.3, 1.7)):
        *models, base = numbers(length * 11, 3, below)
        assert same(*both(applied(RowArcs(lam, 1.0, length), models, base if based else None), monkeypatch))


@pytest.mark.parametrize("many", [1, 2, 3, 5, 16])
def test_sce(many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tuple((m + 1) / 7 for m in range(many))
    for count, below, least in itertools.product(COUNTS, (FINITE, ANY), (0.0, 0.25, 1.0)):
        *models, base = numbers(count, many + 1, below, seed=count)
        assert same(*both(applied(sce.Fuse(weights, least, 0.7), models, base), monkeypatch)), (count, below, least)
        sums = both(lambda given=(models, base, least): torch.from_numpy(sce._squares(*given)), monkeypatch)
        assert same(*sums), (count, below, least)


@pytest.mark.parametrize("parameters", [{}, {"epsilon": 0.9, "normalize": False}], ids=str)
@pytest.mark.parametrize("many", [1, 2, 3, 16])
def test_della(many: int, parameters: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tuple((m - 0.6) / 3 for m in range(many))
    for (rows, length), below in itertools.product(((0, 5), (40, 1), (9, 33), (3, 1027), (1, 2900)), (FINITE, ANY)):
        *models, base = numbers(rows * length, many + 1, below, seed=length)
        operation = della.MagPrune(della.Della(weights=weights, **parameters), 0.7, 0x123456789ABCDEF0, length)
        for first in (0, 3 * length, (1 << 34) // length * length):
            assert same(*both(applied(operation, models, base, first), monkeypatch)), (rows, length, below, first)


@pytest.mark.parametrize(
    "sizes",
    [
        [DeltaSize(0)],
        [DeltaSize(2)],
        [sce.StandardDeviation()],
        [DeltaSize(1), DeltaSize(0), DeltaSize(0), DeltaSize(1)],
        [sce.StandardDeviation()] * 2,
    ],
    ids=str,
)
def test_sizes_in_brackets(sizes: list[Size], monkeypatch: pytest.MonkeyPatch) -> None:
    several = ((0.0, math.inf), (0.25, 0.75), (0.5, 0.5), (0.0, 0.0))
    for count, below, room in itertools.product(COUNTS, (FINITE, ANY), (0, 3, 500, 5000)):
        *models, base = numbers(count, 4, below, seed=count)
        for first in range(len(several)):
            brackets = [(size, *several[(first + i) % len(several)]) for i, size in enumerate(sizes)]

            def pick(models: Any = models, base: Any = base, brackets: Any = brackets, room: int = room) -> list:
                outs = [np.full(room, -1, np.float32) for _ in brackets]
                found = order._pick(models, base, brackets, outs)
                return [(*own, out[: min(own[0], room)].tobytes()) for own, out in zip(found, outs, strict=True)]

            with_kernel, without = both(pick, monkeypatch)
            assert with_kernel == without, (count, below, room, brackets)


def test_brackets_that_fit_nothing_are_refused() -> None:
    short, room = compiled.memory(torch.zeros(4, dtype=torch.bfloat16)), np.empty(4, np.float32)
    for places, lows, outs in (
        ((1,), (0.0,), (room,)), ((-1,), (0.0,), (room,)), ((math.nan,), (0.0,), (room,)), ((0,), (), (room,)),
        ((), (), ()), ((0,) * 33, (0.0,) * 33, (room,) * 33),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"needed|no such model"):
            compiled.kernels.sizes((short,), None, places, lows, lows, outs)
    with pytest.raises((TypeError, BufferError)):
        compiled.kernels.sizes((short,), None, (0,), (0.0,), (1.0,), (b"read only",))


def test_what_does_not_fit_together_is_refused() -> None:
    short, long = (compiled.memory(torch.zeros(count, dtype=torch.bfloat16)) for count in (4, 8))
    numbers = ((1.0,), (1.0,), (0.0,), (math.inf,))
    for models, base, out, given, first in (
        ((short,), long, short, numbers, 0), ((short,), None, long, numbers, 0), ((), None, short, numbers, 0),
        ((short,) * 17, None, short, ((1.0,) * 17,) * 4, 0), ((short, short), None, short, numbers, 0),
        ((short,), None, short, numbers, 2),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"differ|needed|multiple"):
            compiled.kernels.combine(models, base, out, *given, 1.0, 1.0, 0, 0, first, False, False)
