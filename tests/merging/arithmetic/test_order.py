"""The k-th largest size against a sorted copy, with so little room that every way of the search is taken."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mull.errors import MullError
from mull.merging.arithmetic import compiled
from mull.merging.arithmetic import order_statistics as order
from mull.merging.arithmetic.order_statistics import DeltaSize, kth_largest, largest_kept
from mull.merging.arithmetic.source import InMemory

KERNEL = compiled.kernels
COUNT = 9_011


def sets() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(COUNT, generator=generator)
    return {
        "normal": normal,
        "sorted": normal.sort().values,
        "alike": torch.full((COUNT,), 0.3),
        "zero": torch.zeros(COUNT),
        "two values": torch.where(normal > 1, 2.0, -1.0),
        "mostly zero": torch.where(normal.abs() > 2, normal, 0.0),
        "sizes far apart": normal * 10.0 ** (10 * torch.randn(COUNT, generator=generator).clamp(-2, 2)),
        "the first block is unlike the rest": torch.cat([100 + normal[:2048], normal[2048:]]),
        "one outlier": torch.cat([normal[1:], torch.tensor([1e9])]),
    }


SETS = sets()


@pytest.fixture(params=["kernel", "passes"])
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param == "kernel" and KERNEL is None:
        pytest.skip("mull was installed without its compiled part")
    compiled.kernels = KERNEL if request.param == "kernel" else None
    yield
    compiled.kernels = KERNEL


@pytest.fixture(params=[(1 << 22, 1 << 18, 64), (500, 300, 20), (500, 4000, 512), (1, 3, 1)], ids=str)
def room(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    room, sample, run = request.param
    for name, value in {"MAX_COLLECTED": room, "COLLECT_ALL": room, "_SAMPLE": sample, "_SPARSE": 1}.items():
        monkeypatch.setattr(order, name, value)
    monkeypatch.setattr(InMemory, "run_length", run)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32])
def test_every_place(name: str, kind: torch.dtype, way: None, room: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mull.merging.arithmetic.source.BLOCK", 1 << 11)
    model = SETS[name].to(kind)
    base = (0.1 * torch.randn(COUNT, generator=torch.Generator().manual_seed(1))).to(kind)
    for origin in (None, base):
        sizes = (model.double() if origin is None else model.double() - origin.double()).abs().float().numpy()
        wanted = np.sort(sizes)[::-1]
        cuts = (0, 3000, 3001, COUNT)
        sources = [
            InMemory(str(i), [model[a:b]], None if origin is None else origin[a:b])
            for i, (a, b) in enumerate(pairwise(cuts))
        ]
        for k in (1, 2, 300, COUNT // 5, COUNT // 2, COUNT - 1, COUNT):
            assert kth_largest(sources, [(DeltaSize(0), k)]) == [wanted[k - 1]], k
        places = (COUNT // 2, 1, 300)
        assert kth_largest(sources, [(DeltaSize(0), k) for k in places]) == [wanted[k - 1] for k in places]


@given(values=st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=60), data=st.data())
def test_small_ones(values: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(values)))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MAX_COLLECTED", "COLLECT_ALL"):
            patch.setattr(order, name, data.draw(st.integers(1, 70)))
        patch.setattr(order, "_SAMPLE", data.draw(st.integers(1, 70)))
        source = InMemory("x", [torch.tensor(values)])
        assert kth_largest([source], [(DeltaSize(0), k)])[0] == sorted(map(abs, values))[::-1][k - 1]


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32])
def test_elements_that_are_no_numbers_are_passed_over_or_refused(kind: torch.dtype, way: None, room: None) -> None:
    model = SETS["normal"].to(kind).clone()
    model[::3] = torch.nan
    source, numbers = InMemory("x", [model]), model[~model.isnan()]
    wanted = np.sort(numbers.abs().float().numpy())[::-1]
    for k in (1, 500, len(numbers)):
        assert kth_largest([source], [(DeltaSize(0), k)])[0] == wanted[k - 1]
    for k in (len(numbers) + 1, COUNT):
        with pytest.raises(MullError, match="x holds NaN"):
            kth_largest([source], [(DeltaSize(0), k)])
    with pytest.raises(MullError, match="NaN"):
        kth_largest([InMemory("x", [torch.full_like(model, torch.nan)])], [(DeltaSize(0), 1)])


@pytest.mark.parametrize(
    ("count", "density", "kept"),
    [(10, 0.3, 3), (10, 0.29, 2), (7, 1.0, 7), (10, 0.01, 1), (1000, 0.7, 700), (0, 0.5, 1)],
)
def test_a_share_is_rounded_down_but_never_to_nothing(count: int, density: float, kept: int) -> None:
    assert largest_kept(count, density) == kept
