import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mull.checkpoints.pair import Pair
from mull.errors import MullError
from mull.geometry import relative_difference as module
from mull.geometry.relative_difference import relative_difference


def naive(pairs: list[tuple[Tensor, Tensor]]) -> float:
    difference = sum((a.double() - b.double()).abs().sum().item() for a, b in pairs)
    return difference / sum((a.double().abs().sum() + b.double().abs().sum()).item() for a, b in pairs)


@pytest.mark.parametrize("kinds", [(torch.bfloat16, torch.bfloat16), (torch.float32, torch.float16)])
@pytest.mark.parametrize("threads", [1, 3])
def test_against_float64(two_sides: Callable, tensors_of: Callable, kinds: tuple, threads: int, monkeypatch) -> None:
    monkeypatch.setattr(module, "_PIECE", 100)  # many pieces, the last one short
    a, b = tensors_of(0, kinds[0]), tensors_of(1, kinds[1])
    a |= {"model.steps": torch.arange(3), "model.empty": torch.zeros(0), "model.scalar": torch.tensor(2.0)}
    b |= {"model.steps": torch.arange(3) + 5, "model.empty": torch.zeros(0), "model.scalar": torch.tensor(-1.0)}
    pair = Pair.open(*map(str, two_sides({"tensors": a}, {"tensors": b, "shards": 2})))
    told = []
    result = relative_difference(pair, threads=threads, progress=told.append)
    floating = [name for name in a if name != "model.steps"]
    assert result.overall == pytest.approx(naive([(a[n], b[n]) for n in floating]), rel=1e-12)
    cell = [n for n in floating if n.startswith("model.layers.1.self_attn")]
    assert result.cells[1, "attention"] == pytest.approx(naive([(a[n], b[n]) for n in cell]), rel=1e-12)
    assert list(result.cells)[-1] == (None, "other")
    assert sum(told) == sum(t.nbytes for side in (a, b) for n, t in side.items() if n in floating)


def test_rows_of_one_side_only_do_not_count(two_sides: Callable, tensors_of: Callable) -> None:
    a, b = tensors_of(0), tensors_of(1, rows=32)
    pair = Pair.open(*map(str, two_sides({"tensors": a}, {"tensors": b})))
    b["model.embed_tokens.weight"] = b["model.embed_tokens.weight"][:24]
    assert relative_difference(pair).overall == pytest.approx(naive([(a[n], b[n]) for n in a]), rel=1e-12)


@pytest.mark.parametrize("kinds", [(torch.bfloat16, torch.bfloat16), (torch.float32, torch.float16)])
def test_nan_and_infinity_are_counted_and_left_out(
    two_sides: Callable, tensors_of: Callable, kinds: tuple, monkeypatch
) -> None:
    monkeypatch.setattr(module, "_PIECE", 100)
    a, b = tensors_of(0, kinds[0]), tensors_of(1, kinds[1])
    places = ("model.layers.0.mlp.up_proj.weight", "model.norm.weight")
    a[places[0]].view(-1)[[3, 250, 251]] = torch.tensor([torch.nan, torch.inf, -torch.inf]).to(kinds[0])
    b[places[0]].view(-1)[[3, 300]] = torch.inf
    b[places[1]].fill_(torch.nan)
    result = relative_difference(Pair.open(*map(str, two_sides({"tensors": a}, {"tensors": b}))), threads=2)
    assert result.not_finite == ({places[0]: 3}, {places[0]: 2, places[1]: 16})
    keep = torch.tensor([i for i in range(512) if i not in (3, 250, 251, 300)])
    a[places[0]], b[places[0]] = a[places[0]].view(-1)[keep], b[places[0]].view(-1)[keep]
    assert result.overall == pytest.approx(naive([(a[n], b[n]) for n in a if n != places[1]]), rel=1e-12)
    assert result.cells[None, "norm"] == 0


def test_equal_sides_and_the_threads_of_others(two_sides: Callable, tensors_of: Callable) -> None:
    side, _ = map(str, two_sides({"tensors": {"model.zero": torch.zeros(4)}}))
    before = 3
    torch.set_num_threads(before)
    assert relative_difference(Pair.open(side, side)).overall == 0
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert (torch.get_num_threads(), later) == (before, [before])


def test_a_side_that_is_cut_meanwhile(two_sides: Callable, cut_when_seen: Callable) -> None:
    pair = Pair.open(*map(str, two_sides()))
    cut_when_seen(pair.thinking.files[0])
    with pytest.raises(MullError, match="became shorter while it was read"):
        relative_difference(pair)
