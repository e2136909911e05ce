from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mull.errors import MullError
from mull.merging.arithmetic.operations import Combination, Interpolation
from mull.merging.streaming import stream, verify
from mull.merging.streaming.stream import merge


@pytest.fixture(params=["the mixed weights", "the header", "an integer", "a row of the donor's"])
def damage(request: pytest.FixtureRequest) -> Callable[[Any, Path], None]:
    """Flips one byte of a finished shard, as a bad disk would."""

    def flip(plan: Any, folder: Path) -> None:
        (shard,) = plan.shards
        by_name = {tensor.source.name: tensor for tensor in shard.tensors}
        offset = {
            "the mixed weights": by_name["model.layers.1.mlp.up_proj.weight"].start + 1,
            "the header": 30,
            "an integer": by_name["model.steps"].start,
            "a row of the donor's": by_name["model.embed_tokens.weight"].start + 24 * 16 * 2 + 40,
        }[request.param]
        with (folder / shard.file).open("r+b") as file:
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ 0x41]))

    return flip


def test_a_flipped_byte_is_found_and_the_next_call_starts_afresh(
    planned: Callable, tensors_of: Callable, tmp_path: Path, damage: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = {"model.steps": torch.arange(5)}
    sides = [{**tensors_of(0), **steps}, {**tensors_of(1, rows=32), **steps}]
    plan = planned(0.8, instruct={"tensors": sides[0]}, thinking={"tensors": sides[1]})

    def check(plan: Any, folder: Path, operations: Any) -> int:
        damage(plan, folder)
        return verify.verify(plan, folder, operations)

    monkeypatch.setattr(stream, "verify", check)
    with pytest.raises(MullError, match="self-check failed"):
        merge(plan, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["instruct", "thinking"]
    monkeypatch.setattr(stream, "verify", verify.verify)
    merge(plan, tmp_path / "out")


@pytest.mark.parametrize("element", [0, 1023, 3488, 4511, 6976, 7999])
def test_the_wrong_element_is_named_whichever_place_it_lies_in(
    element: int, planned: Callable, tensors_of: Callable, tmp_path: Path
) -> None:
    sides = [{**tensors_of(seed), "model.big": torch.full((20, 400), 1.0 + seed).bfloat16()} for seed in (0, 1)]
    plan = planned(0.8, instruct={"tensors": sides[0]}, thinking={"tensors": sides[1]})
    out = merge(plan, tmp_path / "out")
    (shard,) = plan.shards
    start = next(tensor.start for tensor in shard.tensors if tensor.source.name == "model.big")
    with (out / shard.file).open("r+b") as file:
        file.seek(start + 2 * element)
        file.write(torch.tensor([3.0]).bfloat16().view(torch.uint8).numpy().tobytes())
    operations = {tensor.source.name: Interpolation(0.8) for tensor in shard.tensors}
    with pytest.raises(MullError, match=rf"element {element} of model\.big .* is wrong \(3\)"):
        verify.verify(plan, out, operations)


@pytest.mark.parametrize("size", [1, 1023, 1024, 1025, 5000])
def test_every_place_is_looked_at(size: int) -> None:
    for shared in (0, 1, size // 2, size):
        places = list(verify._all_runs(shared, size))
        assert places[0][0] == 0
        assert sum(places[-1]) == size
        assert not shared or any(first + count == shared for first, count in places)
        assert all(first >= shared or first + count <= shared for first, count in places)


@pytest.mark.parametrize("shared", [0, 100, 9_000])
def test_random_drops_are_looked_at_in_turn_but_in_large_tensors(shared: int) -> None:
    drawn, plain = Combination((1.0, 1.0), keep=5), Combination((1.0, 1.0))
    total = shared + 5_000
    places = list(verify._all_runs(shared, total, 4))
    together = [run for group in verify._sampled_runs(shared, total, plain, 0) for run in group]
    turns = [verify._sampled_runs(shared, total, drawn, turn) for turn in range(3)]
    assert together == places
    assert all(len(runs) == 1 for turn in turns for runs in turn if runs[0][0] < shared)
    assert {run for turn in turns for runs in turn for run in runs} == set(places)
    large = verify._sampled_runs(verify._LARGE, verify._LARGE, drawn, 1)
    assert [run for (run,) in large] == list(verify._all_runs(verify._LARGE, verify._LARGE, 4))


def test_weights_that_are_no_numbers_stay_so(planned: Callable, tensors_of: Callable, tmp_path: Path) -> None:
    sides = [tensors_of(0), tensors_of(1)]
    sides[0]["model.norm.weight"][:2] = torch.tensor([float("nan"), float("inf")])
    both = {"instruct": {"tensors": sides[0]}, "thinking": {"tensors": sides[1]}}
    merge(planned(0.8, **both, allow_non_finite=True), tmp_path / "out")


def test_float16_overflows_to_infinity(planned: Callable, tensors_of: Callable, tmp_path: Path) -> None:
    sides = [{**tensors_of(seed), "model.big": torch.full((3,), 1e30, dtype=torch.bfloat16)} for seed in (0, 1)]
    both = {"instruct": {"tensors": sides[0]}, "thinking": {"tensors": sides[1]}}
    merge(planned(0.8, dtype="float16", **both, allow_non_finite=True), tmp_path / "out")
