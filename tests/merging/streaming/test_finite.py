"""NaN and infinity in inputs and results: found, told apart by side, refused unless allowed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from mull.checkpoints.checkpoint import Checkpoint
from mull.checkpoints.pair import Group
from mull.merging.arithmetic import compiled
from mull.merging.arithmetic.source import NotFinite
from mull.merging.coefficients import Coefficients
from mull.merging.methods import METHODS, make
from mull.merging.streaming.finite import all_finite
from mull.merging.streaming.plan import MergePlan, plan_merge
from mull.merging.streaming.stream import merge

NAME = "model.layers.1.mlp.up_proj.weight"
KINDS = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}


@pytest.fixture(params=["kernel", "numpy"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "numpy":
        monkeypatch.setattr(compiled, "kernels", None)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(list(KINDS)), values=st.lists(st.floats(width=16), max_size=40))
def test_against_isfinite(way: None, kind: str, values: list[float]) -> None:
    tensor = torch.tensor(values, dtype=torch.float64).to(KINDS[kind])
    data = memoryview(tensor.view(torch.uint8).numpy().tobytes() if values else b"")
    assert all_finite(data, kind) is bool(tensor.isfinite().all())


def test_every_pattern_of_16_bits(way: None) -> None:
    patterns = np.arange(1 << 16, dtype=np.uint16)
    for kind in ("F16", "BF16"):
        wanted = torch.from_numpy(patterns.view(np.int16).copy()).view(KINDS[kind]).isfinite().tolist()
        assert [all_finite(memoryview(p.tobytes()), kind) for p in patterns] == wanted


def group_plan(
    folder: Path, write: Callable[..., Path], tensors: list[dict], name: str, coefficient: float | None, **options: Any
) -> MergePlan:
    """A merge of the first two; the third is the base if the method takes one."""
    method = make(name)
    models = [Checkpoint(write(folder / str(i), each)) for i, each in enumerate(tensors)]
    group = Group(models[:2], models[2] if method.base == "required" else None)
    value = coefficient if coefficient is not None else {"lambda": 0.3, "alpha": 0.7, None: 1.0}[method.coefficient]
    return plan_merge(group, Coefficients.scalar(value), method=method, **options)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(
    ("name", "where"),
    [(name, where) for name in METHODS for where in range(3 if METHODS[name].base == "required" else 2)],
)
def test_every_method_refuses_it_and_says_where(
    name: str, kind: torch.dtype, where: int, value: float, tmp_path: Path, write_checkpoint: Any, tensors_of: Any
) -> None:
    tensors = [tensors_of(i, kind) for i in range(3)]
    tensors[where][NAME][3, 4] = value
    plan = group_plan(tmp_path, write_checkpoint, tensors, name, None)
    place = ("in model 1", "in model 2", "in the base")[where]
    with pytest.raises(NotFinite, match=rf"{NAME} holds NaN or infinity: 1 of 512 elements {place}\. Download or save"):
        merge(plan, tmp_path / "out")
    assert not [path for path in tmp_path.iterdir() if path.name not in "012"]


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", ["dare", "dare_ties", "della"])
def test_random_drops_hide_nothing(name: str, kind: torch.dtype) -> None:
    base, model, other = (torch.zeros(64, 64, dtype=kind), torch.ones(64, 64, dtype=kind), torch.ones(64, 64).to(kind))
    model[::2] = torch.tensor([math.nan, math.inf, -math.inf, math.nan] * 16, dtype=kind)
    for models in ([model, other], [other, model], [other, other, model]):
        result = make(name, {"density": 0.1, **({"epsilon": 0.1} if name == "della" else {})}).combine(models, base)
        assert not result[::2].isfinite().any()
        assert result[1::2].isfinite().all()


def pair_plan(planned: Callable, sides: list[dict], lam: float, **options: Any) -> MergePlan:
    return planned(lam, instruct={"tensors": sides[0]}, thinking={"tensors": sides[1]}, **options)


def test_both_sides_are_counted(planned: Callable, tensors_of: Callable, tmp_path: Path) -> None:
    sides = [tensors_of(0), tensors_of(1)]
    sides[0][NAME].view(-1)[5:8] = -math.inf
    sides[1][NAME].view(-1)[:100] = math.nan
    places = "3 of 512 elements on the Instruct side, 100 of 512 elements on the Thinking side"
    with pytest.raises(NotFinite, match=f"{NAME} holds NaN or infinity: {places}"):
        merge(pair_plan(planned, sides, 1.0), tmp_path / "out")


def test_a_side_that_is_not_read_may_hold_anything(planned: Callable, tensors_of: Callable, tmp_path: Path) -> None:
    sides = [tensors_of(0), tensors_of(1)]
    sides[1][NAME][0, 0] = math.nan
    out = merge(pair_plan(planned, sides, 0.0), tmp_path / "out")
    assert torch.equal(load_file(out / "model.safetensors")[NAME], sides[0][NAME])


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("lam", [0.8, 1.0])
def test_a_result_beyond_float16(
    planned: Callable, tensors_of: Callable, tmp_path: Path, lam: float, stored: Any
) -> None:
    sides = [tensors_of(seed, stored) for seed in (0, 1)]
    sides[1]["model.norm.weight"][7] = -1e5
    plan = pair_plan(planned, sides, lam, dtype="float16")
    beyond = r"element 7 of model\.norm\.weight is beyond the range of float16 in the result \(at most 65504\)\."
    with pytest.raises(NotFinite, match=beyond + " Choose --dtype"):
        merge(plan, tmp_path / "out")
    allowed = plan_merge(plan.group, plan.coefficients, dtype="float16", allow_non_finite=True)
    out = merge(allowed, tmp_path / "out")
    assert load_file(out / "model.safetensors")["model.norm.weight"][7] == -math.inf
    assert json.loads((out / "mull.json").read_text())["allowed"] == ["non-finite"]


def test_a_result_beyond_bfloat16(planned: Callable, tensors_of: Callable, tmp_path: Path) -> None:
    """The inputs are finite, their difference is not: float32 overflows where the self-check's float64 does not."""
    sides = [tensors_of(seed) for seed in (0, 1)]
    for side, value in zip(sides, (3e38, -3e38), strict=True):
        side["model.norm.weight"][2] = value
    plan = pair_plan(planned, sides, 0.4)
    with pytest.raises(NotFinite, match=r"element 2 of model\.norm\.weight is beyond the range of bfloat16"):
        merge(plan, tmp_path / "out")
    merge(plan_merge(plan.group, plan.coefficients, allow_non_finite=True), tmp_path / "out")


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", ["mi", "ta", "dare", "dare_ties", "della", "nuslerp"])
def test_what_is_allowed_is_written_and_passes_the_self_check(
    name: str, kind: torch.dtype, tmp_path: Path, write_checkpoint: Any, tensors_of: Any
) -> None:
    tensors = [tensors_of(i, kind) for i in range(3)]
    for side, value in zip(tensors, (math.nan, math.inf, -math.inf), strict=True):
        side[NAME][torch.rand(32, 16, generator=torch.Generator().manual_seed(int(side is tensors[0]))) < 0.2] = value
    plan = group_plan(tmp_path, write_checkpoint, tensors, name, None, allow_non_finite=True)
    out = load_file(merge(plan, tmp_path / "out") / "model.safetensors")
    assert not out[NAME].isfinite().all()
    assert all(tensor.isfinite().all() for other, tensor in out.items() if other != NAME)
