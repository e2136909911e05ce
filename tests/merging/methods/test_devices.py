"""The same bytes wherever the arithmetic runs: on a stand-in for a device, and on a CUDA device where there is one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mull.checkpoints.blocks import Buffer
from mull.errors import MullError
from mull.merging.arithmetic.random_numbers import _random_numbers_on, random_numbers
from mull.merging.coefficients import Coefficients
from mull.merging.streaming import devices
from mull.merging.streaming.plan import plan_merge
from mull.merging.streaming.stream import merge, merge_all

from .test_streaming import CASES, EACH, Write, planned, sides, weights, written

_KINDS = (torch.bfloat16, torch.float16, torch.float32, torch.float64)


@pytest.fixture(scope="module", params=_KINDS, ids=str)
def folders(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, write_checkpoint: Write) -> list:
    return written(tmp_path_factory.mktemp("devices"), write_checkpoint, sides(3, request.param), (1, 2, 3, 2))


class Apart(devices.Host):
    """Memory of its own, as a device has: what was not sent there is not there, and what is there must be fetched."""

    piece = 30_011

    def __init__(self) -> None:
        self.sent = self.fetched = 0
        self.rooms: list[Tensor] = []

    def buffer(self, nbytes: int) -> Buffer:
        assert nbytes <= 8 * 140_003
        return super().buffer(nbytes)

    def send(self, piece: Tensor) -> Tensor:
        self.sent += 1
        return piece.clone()

    def allocate_for(self, result: Tensor) -> Tensor:
        self.rooms.append(torch.full_like(result, torch.nan))
        return self.rooms[-1]

    def fetch(self, computed: Tensor, result: Tensor) -> None:
        assert computed is self.rooms[-1]
        self.fetched += 1
        result.copy_(computed)


@EACH
def test_pieces_travel_to_a_device_and_back(
    name: str, parameters: dict, folders: list[Path], tmp_path: Path, digests: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = planned(folders, name, parameters, 0.25)
    plans = [first, plan_merge(first.group, Coefficients.scalar(0.6180339887), method=first.method)]
    wanted = [weights(digests(merge(plan, tmp_path / f"wanted{i}"))) for i, plan in enumerate(plans)]
    made: list[Apart] = []

    def stage(device: str) -> devices.Host:
        made.append(Apart())
        return made[-1]

    monkeypatch.setattr(devices, "stage", stage)
    outs = merge_all(plans, [tmp_path / "0", tmp_path / "1"])
    assert [weights(digests(out)) for out in outs] == wanted
    sent, fetched = sum(each.sent for each in made), sum(each.fetched for each in made)
    if name.startswith("nuslerp") and not parameters:
        assert sent == fetched == 0  # sums over rows: the CPU's order of additions
    else:
        inputs = len(plans[0].group.models) + (plans[0].group.base is not None)
        assert fetched > 0 and sent == fetched // 2 * inputs  # each input travels once for both results


@pytest.mark.parametrize("first", [0, 1, 7, 4096, 2**34 + 3])
def test_a_device_draws_the_same_random_numbers(first: int) -> None:
    for key in (0, 2**64 - 1, 0x0123456789ABCDEF):
        wanted = random_numbers(key, 3, first, 1001)
        assert _random_numbers_on(torch.device("cpu"), key, 3, first, 1001).tolist() == wanted.tolist()


def test_fused_multiply_add_is_found() -> None:
    assert devices._fuses(torch.device("cpu"))


@pytest.mark.parametrize("device", ["gpu", "mps", "cuda:", "cuda:x", "cuda:99", ""])
def test_a_device_that_is_none_or_not_there_is_refused(device: str, folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(MullError, match="device"):
        merge(planned(folders, *CASES[0]), tmp_path / "out", device=device)
    assert not any(tmp_path.iterdir())


def test_a_device_that_fails_is_a_sentence(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: devices.Host, piece: Tensor) -> Tensor:
        raise RuntimeError("CUDA out of memory. Tried to allocate 8.00 MiB.\nmore")

    monkeypatch.setattr(devices, "check", lambda device: None)
    monkeypatch.setattr(devices, "stage", lambda device: devices.Host())
    monkeypatch.setattr(devices.Host, "send", fail)
    with pytest.raises(
        MullError, match=r"^cuda failed: CUDA out of memory\. Tried to allocate 8\.00 MiB\.+ Try fewer --threads"
    ):
        merge(planned(folders, *CASES[0]), tmp_path / "out", device="cuda")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@EACH
def test_a_cuda_device_writes_the_same_bytes(
    name: str, parameters: dict, folders: list[Path], tmp_path: Path, digests: Callable
) -> None:
    plan = planned(folders, name, parameters)
    wanted = weights(digests(merge(plan, tmp_path / "cpu")))
    assert weights(digests(merge(plan, tmp_path / "cuda", device="cuda"))) == wanted


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_numbers_that_are_none_have_the_cpus_bytes(tmp_path: Path, write_checkpoint: Write, digests: Callable) -> None:
    tensors = sides(1)
    tensors[0]["model.y"][3] = torch.nan
    tensors[1]["model.y"][5] = torch.inf
    plan = replace(
        planned(written(tmp_path, write_checkpoint, [*tensors, tensors[0]]), "mi", {}), allow_non_finite=True
    )
    wanted = weights(digests(merge(plan, tmp_path / "cpu")))
    assert weights(digests(merge(plan, tmp_path / "cuda", device="cuda"))) == wanted
