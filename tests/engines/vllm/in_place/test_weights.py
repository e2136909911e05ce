"""Real vLLM: weights set in place are those of the merged checkpoint, and so are the texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen3Config, Qwen3MoeConfig

from mull.checkpoints.checkpoint import Checkpoint
from mull.checkpoints.pair import Group
from mull.merging.coefficients import Coefficients, Rule
from mull.merging.coefficients.recipe import Recipe
from mull.merging.methods import make
from mull.merging.streaming.plan import plan_merge
from mull.merging.streaming.stream import merge
from tests.engines.conftest import COMMON, save_model
from tests.engines.vllm.in_place.apart import run

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1500)]

SIZES = COMMON | {"hidden_size": 128, "intermediate_size": 96, "head_dim": 32, "vocab_size": 150}
CONFIGS = {
    "qwen3": lambda: Qwen3Config(**SIZES, tie_word_embeddings=True),
    "qwen3_moe": lambda: Qwen3MoeConfig(
        **SIZES, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=64, tie_word_embeddings=False
    ),
}
PROMPTS = [[7, 9, 11, 90], list(range(10, 60)), [3] * 20]
RECIPES = {
    "a λ": Recipe(Coefficients.scalar(0.37)),
    "an end": Recipe(Coefficients.scalar(0.0)),
    "a λ per layer": Recipe(Coefficients.per_layer([0.2, 0.9], rest=0.4)),
    "one module": Recipe(Coefficients(0.1, (Rule(0.8, name="*q_proj*"), Rule(0.6, name="*up_proj*")))),
    "a method": Recipe(Coefficients.scalar(0.7), make("slerp")),
    "with a base": Recipe(Coefficients.scalar(1.0), make("ties", {"density": 0.4}), ("instruct", "thinking"), "base"),
}


class Models:
    """Random checkpoints of one kind, bfloat16, and their merges."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder = folder
        self.folders = {
            role: save_model(folder / role, CONFIGS[kind](), seed=seed, dtype=torch.bfloat16)
            for seed, role in enumerate(("instruct", "thinking", "base"))
        }

    def merged(self, name: str) -> Path:
        out = self.folder / name.replace(" ", "-")
        if not out.exists():
            recipe = RECIPES[name]
            models = [Checkpoint(self.folders[role]) for role in recipe.models]
            base = Checkpoint(self.folders[recipe.base]) if recipe.base else None
            merge(plan_merge(Group(models, base, donor=1), recipe.coefficients, method=recipe.method), out)
        return out

    def set_in_place(self, *names: str, **given: Any) -> list[dict[str, Any]]:
        recipes = [RECIPES[name].to_json() for name in names]
        return run(folders=self.folders, recipes=recipes, prompts=PROMPTS, **given)

    def alone(self, name: str, **given: Any) -> dict[str, Any]:
        """vLLM on the merged checkpoint, its weights not packed, so that they can be compared."""
        options = {"quantization": "mull-in-place"} | given.pop("options", {})
        return run(folder=self.merged(name), prompts=PROMPTS, options=options, **given)[0]


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("dense"), "qwen3")


@pytest.fixture(scope="module")
def everything(dense: Models) -> dict[str, dict[str, Any]]:
    """All recipes, one after the other and the first once more, in one engine."""
    names = list(RECIPES)
    found = dense.set_in_place(*names, names[0])
    assert found[-1] == found[0]
    return dict(zip(names, found, strict=False))


@pytest.mark.parametrize("name", RECIPES)
def test_weights_and_greedy_texts_are_those_of_the_merged_checkpoint(
    dense: Models, everything: dict[str, dict[str, Any]], name: str
) -> None:
    assert everything[name] == dense.alone(name)


def test_greedy_texts_are_those_of_vllm_as_it_comes(dense: Models, everything: dict[str, dict[str, Any]]) -> None:
    packed = run(folder=dense.merged("a λ"), prompts=PROMPTS)[0]
    assert packed["texts"] == everything["a λ"]["texts"]
    assert len({str(found["texts"]) for found in everything.values()}) == len(RECIPES)


@pytest.mark.parametrize("ends", ["memory", "files"])
def test_the_same_wherever_the_ends_are_kept(dense: Models, everything: dict[str, dict[str, Any]], ends: str) -> None:
    names = ("a λ", "one module", "an end")
    assert dense.set_in_place(*names, ends=ends) == [everything[name] for name in names]


def test_each_worker_of_two_sets_its_own_shards(dense: Models) -> None:
    names = ("a λ", "one module", "a method")
    options = {"tensor_parallel_size": 2}
    for name, found in zip(names, dense.set_in_place(*names, options=options), strict=True):
        assert found == dense.alone(name, options=options), name
        first, second = found["hashes"]
        assert first["model.layers.0.self_attn.qkv_proj.weight"] != second["model.layers.0.self_attn.qkv_proj.weight"]


def test_experts_are_set_or_refused(tmp_path: Path) -> None:
    """On CPU vLLM packs experts at the first loading only: what it loads again would be other weights in its eyes."""
    models = Models(tmp_path, "qwen3_moe")
    names = ("a λ", "one module")
    try:
        found = models.set_in_place(*names)
    except AssertionError as error:
        assert "into another layout when it loads it again" in str(error)
    else:
        assert found == [models.alone(name) for name in names]


def test_a_head_that_equals_the_embedding_at_one_end_only(tmp_path: Path) -> None:
    """vLLM ties such a head after loading; the other end's must not be lost."""
    config = Qwen3Config(**SIZES, tie_word_embeddings=False)
    models = Models.__new__(Models)
    models.folder = tmp_path
    models.folders = {
        role: save_model(tmp_path / role, config, seed=seed, dtype=torch.bfloat16)
        for seed, role in enumerate(("instruct", "thinking"))
    }
    file = models.folders["thinking"] / "model.safetensors"
    tensors = load_file(file)
    save_file(tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}, file, {"format": "pt"})
    assert models.set_in_place("a λ")[0]["texts"] == models.alone("a λ")["texts"]
