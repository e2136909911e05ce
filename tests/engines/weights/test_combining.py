"""Weights made in memory by any method are those that a merge writes to files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mull.checkpoints.checkpoint import Checkpoint
from mull.checkpoints.pair import Group, Pair
from mull.engines.weights.interpolated import InterpolatedModel
from mull.errors import MullError
from mull.merging.coefficients import Coefficients
from mull.merging.coefficients.recipe import Recipe
from mull.merging.methods import METHODS, make
from mull.merging.streaming.plan import plan_merge
from mull.merging.streaming.stream import merge
from mull.tiny import checkpoint_folder

ROLES = ("instruct", "thinking", "base")
FOLDERS = {role: Path(checkpoint_folder(role)) for role in ROLES}


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16], ids=str)
def model(request: pytest.FixtureRequest) -> InterpolatedModel:
    return InterpolatedModel(
        FOLDERS["instruct"],
        FOLDERS["thinking"],
        donor="thinking",
        device=torch.device("cpu"),
        dtype=request.param,
        trust_remote_code=False,
        others={"base": FOLDERS["base"]},
    )


@pytest.mark.parametrize("name", METHODS)
def test_the_live_weights_are_those_of_the_merge(model: InterpolatedModel, name: str, tmp_path: Path) -> None:
    method = make(name)
    based = method.base == "required"
    coefficients = Coefficients.scalar(0.6 if method.coefficient == "lambda" else 0.7)
    model.make(Recipe(coefficients, method, base="base" if based else None))
    sides = [Checkpoint(FOLDERS[role]) for role in ROLES]
    plan = plan_merge(Pair(*sides[: 3 if based else 2]), coefficients, method=method)
    merged = load_file(merge(plan, tmp_path / "out") / "model.safetensors")
    assert {parameter.name for parameter in model.parameters} == merged.keys()
    for parameter in model.parameters:
        assert torch.equal(parameter.live, merged[parameter.name].to(parameter.live.dtype)), parameter.name


def test_three_models(model: InterpolatedModel, tmp_path: Path) -> None:
    method = make("mi", {"weights": (0.5, 0.3, 0.2)})
    model.make(Recipe(Coefficients.scalar(1.0), method, models=ROLES))
    plan = plan_merge(Group([Checkpoint(FOLDERS[role]) for role in ROLES]), Coefficients.scalar(1.0), method=method)
    merged = load_file(merge(plan, tmp_path / "out") / "model.safetensors")
    assert all(
        torch.equal(parameter.live, merged[parameter.name].to(parameter.live.dtype)) for parameter in model.parameters
    )


def test_another_model_in_the_place_of_instruct(model: InterpolatedModel) -> None:
    model.make(Recipe(Coefficients.scalar(0.0), models=("base", "thinking")))
    base = load_file(FOLDERS["base"] / "model.safetensors")
    assert all(
        torch.equal(parameter.live, base[parameter.name].to(parameter.live.dtype)) for parameter in model.parameters
    )
    model.make(Recipe(Coefficients.scalar(1.0)))
    thinking = load_file(FOLDERS["thinking"] / "model.safetensors")
    assert all(
        torch.equal(parameter.live, thinking[parameter.name].to(parameter.live.dtype)) for parameter in model.parameters
    )


def test_a_role_that_is_not_held(model: InterpolatedModel) -> None:
    with pytest.raises(MullError, match="no checkpoint is called 'bass'"):
        model.make(Recipe(Coefficients.scalar(0.5), models=("bass", "thinking")))


def test_a_recipe_needs_what_its_method_needs() -> None:
    with pytest.raises(MullError, match="needs a base"):
        Recipe(Coefficients.scalar(1.0), make("ties"))
