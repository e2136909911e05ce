"""Tensors as vLLM's loaders take them, and where they go; without vLLM."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mull.checkpoints.pair import Pair
from mull.engines.vllm.in_place.files import Files
from mull.engines.vllm.in_place.regions import Watch
from mull.errors import MullError
from mull.merging.coefficients import Coefficients, Rule
from mull.merging.coefficients.recipe import Recipe
from mull.merging.methods import make
from mull.merging.methods.base import Method
from mull.merging.methods.mi import Mi
from mull.merging.streaming.plan import plan_merge
from mull.merging.streaming.stream import merge


def files(instruct: Path, thinking: Path, donor: str = "thinking") -> Files:
    return Files({"instruct": instruct, "thinking": thinking}, donor)


def merged(pair: Pair, coefficients: Coefficients, out: Path, method: Method | None = None) -> Path:
    return merge(plan_merge(pair, coefficients, method=method or Mi()), out)


def same(found: dict[str, Tensor], folder: Path) -> None:
    expected = load_file(folder / "model.safetensors")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("kind", ["qwen3", "qwen3_moe", "qwen2"])
@pytest.mark.parametrize("lam", [0.0, 0.37, 1.0])
def test_the_tensors_are_those_of_a_merge(pairs, tmp_path: Path, kind: str, lam: float) -> None:
    instruct, thinking = pairs(kind)
    coefficients = Coefficients(lam, (Rule(0.9, name="*q_proj*"),))
    merged(Pair.open(str(instruct), str(thinking)), coefficients, tmp_path / "merged")
    same(dict(files(instruct, thinking).merged(Recipe(coefficients))), tmp_path / "merged")


def test_any_method_as_in_a_merge(pairs, tmp_path: Path) -> None:
    instruct, thinking = pairs("qwen3")
    slerp = make("slerp")
    coefficients = Coefficients.scalar(0.3)
    merged(Pair.open(str(instruct), str(thinking)), coefficients, tmp_path / "merged", slerp)
    same(dict(files(instruct, thinking).merged(Recipe(coefficients, slerp))), tmp_path / "merged")


@pytest.mark.parametrize("donor", ["instruct", "thinking"])
def test_vocabulary_rows_that_one_side_lacks_are_the_donors(pairs, tmp_path: Path, donor: str) -> None:
    instruct, thinking = pairs("llama")
    shutil.copytree(thinking, tmp_path / "longer")
    tensors = load_file(thinking / "model.safetensors")
    longer = {
        name: torch.cat([t, torch.full((6, t.shape[1]), 0.5, dtype=t.dtype)]) if t.shape[0] == 64 else t
        for name, t in tensors.items()
    }
    save_file(longer, tmp_path / "longer" / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((thinking / "config.json").read_text())
    (tmp_path / "longer" / "config.json").write_text(json.dumps(config | {"vocab_size": 70}))
    pair = Pair.open(str(instruct), str(tmp_path / "longer"), donor=donor)
    pair.check()
    merged(pair, Coefficients.scalar(0.5), tmp_path / "merged")
    held = files(instruct, tmp_path / "longer", donor)
    same(dict(held.merged(Recipe(Coefficients.scalar(0.5)))), tmp_path / "merged")
    for role, folder in (("instruct", instruct), ("thinking", tmp_path / "longer")):
        own = load_file(folder / "model.safetensors")
        for name, tensor in held.end(role):
            rows = min(len(tensor), len(own[name]))
            assert torch.equal(tensor[:rows], own[name][:rows])
            assert tensor.shape == held.donors(name).shape


def test_a_role_that_is_not_held_is_refused(pairs) -> None:
    recipe = Recipe(Coefficients.scalar(1.0), make("ta"), ("instruct", "coder"), "instruct")
    with pytest.raises(MullError, match="no checkpoint is called 'coder'"):
        list(files(*pairs("qwen3")).merged(recipe))


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(Coefficients.scalar(0.4)),
        Recipe(Coefficients(0.1, (Rule((0.2, 0.3)), Rule(0.5, ((1, 1),), ("ffn",))))),
        Recipe(Coefficients.scalar(1.5, extrapolate=True), make("ties", {"density": 0.3}), base="base"),
        Recipe(Coefficients.scalar(1.0), make("mi", {"weights": "0.5,0.25,0.25"}), ("a", "b", "c")),
    ],
)
def test_a_recipe_survives_its_record(recipe: Recipe) -> None:
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


class Fused(nn.Module):
    """Loads as vLLM does: rows of three tensors in one parameter, half of the columns of another, an expert's rows."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Parameter(torch.zeros(8, 4), requires_grad=False)
        self.down = nn.Parameter(torch.zeros(4, 3), requires_grad=False)
        self.experts = nn.Parameter(torch.zeros(2, 6, 4), requires_grad=False)

    def load_weights(self, tensors) -> None:
        for name, tensor in tensors:
            if name in "qkv":
                rows = {"q": slice(0, 4), "k": slice(4, 6), "v": slice(6, 8)}[name]
                self.qkv.data[rows].copy_(tensor)
            elif name == "down":
                self.down.data.copy_(tensor.narrow(1, 3, 3))
            elif name != "elsewhere":
                expert, part = name.split(".")
                self.experts.data[int(expert)].narrow(0, 3 * (part == "up"), 3).copy_(tensor)


def test_watching_the_loading_tells_what_lies_where() -> None:
    model = Fused()
    tensors = {
        "q": torch.rand(4, 4),
        "k": torch.rand(2, 4),
        "v": torch.rand(2, 4),
        "elsewhere": torch.rand(1),
        "down": torch.rand(4, 6),
        **{f"{expert}.{part}": torch.rand(3, 4) for expert in (0, 1) for part in ("gate", "up")},
    }
    with Watch(model) as watch:
        model.load_weights(watch.naming(tensors.items()))
    found = {
        region.name: region.of(dict(model.named_parameters())[name])
        for name, regions in watch.regions.items()
        for region in regions
    }
    assert found.keys() == tensors.keys() - {"elsewhere"}
    assert all(torch.equal(found[name], tensors[name]) for name in found if name != "down")
    assert torch.equal(found["down"], tensors["down"][:, 3:])
    model.qkv.data[0].zero_()  # nothing is watched any more
    assert len(watch.regions["qkv"]) == 3
