"""Where the ends are kept decides what memory they take, and nothing of the mixed weights."""

from __future__ import annotations

import re
import sys
import weakref
from pathlib import Path

import pytest
import torch

from mull.engines.local.engine import LocalEngine
from mull.engines.local.needs import memory_needs
from mull.engines.weights import by_row
from mull.engines.weights.combining import LiveParameter
from mull.engines.weights.interpolated import InterpolatedModel
from mull.engines.weights.placement import Placement, chosen_placement, weight_bytes
from mull.merging.coefficients import Coefficients
from mull.merging.coefficients.recipe import Recipe
from mull.merging.methods import METHODS

from ..conftest import CONFIGS

GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/maps")


def load(folders: tuple[Path, Path], ends: Placement | None, device: str = "cpu", dtype=None) -> InterpolatedModel:
    return InterpolatedModel(
        *folders, donor="thinking", device=torch.device(device), dtype=dtype, trust_remote_code=False, ends=ends
    )


def file_of(tensor: torch.Tensor) -> str:
    """The mapped file that holds a tensor; empty for plain memory."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        found = re.match(r"(\w+)-(\w+) \S+ \S+ \S+ \d+ *(.*)", line)
        assert found
        if int(found[1], 16) <= tensor.data_ptr() < int(found[2], 16):
            return found[3]
    raise AssertionError("no such address")


@pytest.mark.parametrize("kind", ["qwen3", "qwen3_moe"])
@pytest.mark.parametrize("device", ["cpu", GPU])
def test_placements_give_the_same_bytes(pairs, kind: str, device: str) -> None:
    recipes = [Recipe(Coefficients.scalar(lam)) for lam in (0, 0.0001, 0.3, 1)]
    recipes.append(Recipe(Coefficients.scalar(0.5), METHODS["slerp"]()))
    models = [load(pairs(kind), ends, device) for ends in Placement]
    for recipe in recipes:
        for model in models:
            model.make(recipe)
        first, *others = (model.parameters for model in models)
        for other in others:
            assert all(a.live.equal(b.live) for a, b in zip(first, other, strict=True))


@LINUX
@pytest.mark.parametrize("kind", ["qwen3", "qwen3_moe"])
def test_ends_stay_in_their_files(pairs, kind: str) -> None:
    """All but experts, which transformers stacks: those are in memory."""
    folders = pairs(kind)
    model = load(folders, Placement.files)
    files = [str(folder / "model.safetensors") for folder in folders]
    found = {each.name: [file_of(end) for end in (each.instruct, each.thinking)] for each in model.parameters}
    stacked = {name for name in found if ".experts." in name}
    assert (kind == "qwen3_moe") == bool(stacked)
    assert all(found[name] == files for name in found.keys() - stacked)
    assert not any("safetensors" in file for name in stacked for file in found[name])


@LINUX
def test_ends_in_memory_are_out_of_their_files(pairs) -> None:
    model = load(pairs("qwen3"), Placement.memory)
    assert not any("safetensors" in file_of(end) for parameter in model.parameters for end in parameter.ends.values())


def test_a_device_without_float64_gets_what_the_cpu_mixed(pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, copied = (load(pairs("qwen3"), None) for _ in range(2))
    for lam in (0.0001, 0.3, 1):
        whole.set(Coefficients.scalar(lam))
        with monkeypatch.context() as patch:  # as if the live model were elsewhere
            patch.setattr("mull.engines.weights.combining._is_on", lambda tensor, device: False)
            copied.set(Coefficients.scalar(lam))
        assert all(a.live.equal(b.live) for a, b in zip(whole.parameters, copied.parameters, strict=True))


@pytest.mark.parametrize(("copies", "expected"), [(5, Placement.device), (4, Placement.files)])
def test_a_gpu_holds_the_ends_if_a_third_is_left(pairs, monkeypatch: pytest.MonkeyPatch, copies: int, expected) -> None:
    folders = dict(zip(("instruct", "thinking"), pairs("qwen3"), strict=True))
    ends, mixed = weight_bytes(folders, "thinking", None)
    assert (
        ends
        == 2 * mixed
        == 2 * sum(parameter.live.nbytes for parameter in load(pairs("qwen3"), None, "meta").parameters)
    )
    assert weight_bytes(folders, "thinking", torch.float32) == (ends, 2 * mixed)
    monkeypatch.setattr("mull.engines.weights.placement.known_free_memory", lambda device: copies * mixed)
    assert chosen_placement(weight_bytes(folders, "thinking", None), torch.device("cuda")) == expected
    assert chosen_placement(weight_bytes(folders, "thinking", None), torch.device("cpu")) == Placement.files


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_needs_are_those_of_the_loaded_model(pairs, kind: str) -> None:
    folders = dict(zip(("instruct", "thinking"), pairs(kind), strict=True))
    engine = LocalEngine(*pairs(kind), device="cpu")
    options = {"tokens": 100, "batch_size": 5}
    needs = memory_needs(folders, "thinking", torch.device("cpu"), **options, ends=Placement.files)
    assert needs.per_row == engine._layout.row_bytes(-(-needs.tokens // 64) * 64)
    held = [parameter for parameter in engine._weights.parameters if ".experts." in parameter.name]
    assert needs.stacked == sum(end.nbytes for parameter in held for end in parameter.ends.values())
    assert needs.mixed == pytest.approx(
        sum(parameter.live.nbytes for parameter in engine._weights.parameters), rel=0.01
    )
    assert needs.peak == needs.mixed + needs.stacked + needs.cache


def test_a_lambda_per_row_frees_each_parameter_before_the_next(pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the doubled weights and one parameter are held at most."""
    given: list[weakref.ref] = []
    build = by_row._mixed

    def watched(parameter: torch.Tensor, ends: LiveParameter, rows: by_row.RowLambdas) -> object:
        assert not any(tensor() is not None for tensor in given)
        given.extend(map(weakref.ref, (parameter, ends.live, *ends.ends.values())))
        return build(parameter, ends, rows)

    monkeypatch.setattr(by_row, "_mixed", watched)
    engine = LocalEngine(*pairs("qwen3"), device="cpu", by_row=True)
    assert len(given) == 4 * 25 and engine._weights.parameters == []
