"""Every compiled kernel beside what stands in for it without a compiler: the same bits, whatever the values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mull.merging import compiled
from mull.merging.operations import Combination

pytestmark = pytest.mark.skipif(compiled.kernels is None, reason="mull was installed without its compiled part")
COUNTS = (0, 1, 5, 256, 1000, 4099)
FINITE, ANY = 0x7F80, 0x8000


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


SUMS: list[dict[str, Any]] = [
    {"factors": (1.0, 1.0)}, {"factors": (0.3, -0.9), "mean": True}, {"factors": (1.0, 1.0), "elect": True},
    {"factors": (1.0, 1.0), "elect": True, "mean": True}, {"factors": (0.7, -0.7), "elect": True, "mean": True},
    {"factors": (0.0, 3.0), "elect": True, "mean": True}, {"factors": (1e30, 3.0), "weights": (0.5, 0.0), "mean": True},
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

            def merged(operation: Combination = operation, first: int = first) -> Tensor:
                out = torch.empty(count, dtype=torch.bfloat16)
                operation.into(models, base if based else None, out, first)
                return out

            assert same(*both(merged, monkeypatch)), (count, below, scale)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_combination_may_overwrite_an_input(place: int) -> None:
    *models, base = numbers(1000, 3, FINITE)
    operation = Combination((1.0, 0.5), elect=True, mean=True)
    wanted = torch.empty_like(base)
    operation.into(models, base, wanted, 0)
    operation.into(models, base, [*models, base][place], 0)
    assert same([*models, base][place], wanted)


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
