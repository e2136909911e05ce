"""An adapter at several λ: what each folder stands for, and the command that serves them."""

import json
import os
import shlex
import subprocess

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

from mull.checkpoints.pair import Pair
from mull.errors import MullError
from mull.merging.adapter import levels as levels_module
from mull.merging.adapter.levels import Levels, max_lora_rank, refused_head, serve_script, write_levels
from mull.merging.adapter.lowrank import plan_low_rank
from mull.merging.adapter.writing import CONFIG, WEIGHTS, extract
from mull.tiny import checkpoint_folder

PREFIX = "base_model.model."
SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


@pytest.fixture(scope="module")
def plan():
    pair = Pair.open(*(str(checkpoint_folder(kind)) for kind in ("instruct", "thinking")), donor="instruct")
    pair.check()
    return plan_low_rank(pair, 128, dtype="float32")  # keys and values have 64 rows: a rank of their own


@pytest.fixture
def written(plan, tmp_path):
    levels = Levels.of("mull", [0.3, 0.65, 1])
    folder = tmp_path / "out"

    def describe(partial, fidelity, record):
        write_levels(levels, plan, partial)
        return {}

    extract(plan, folder, describe=describe)
    return levels, folder


def added(folder):
    """What a LoRA engine adds to each weight, in float64: lora_alpha / r · B·A, by the patterns where they match."""
    config = json.loads((folder / CONFIG).read_text())
    assert not config["use_rslora"] and config["modules_to_save"] is None
    stored = {name: tensor.double().numpy() for name, tensor in load_file(folder / WEIGHTS).items()}
    found = {}
    for name, a in stored.items():
        if ".lora_A." in name:
            module = name.removeprefix(PREFIX).removesuffix(".lora_A.weight")
            rank = config["rank_pattern"].get(module, config["r"])
            assert len(a) == rank
            scale = config["alpha_pattern"].get(module, config["lora_alpha"]) / rank
            found[f"{module}.weight"] = scale * stored[name.replace("lora_A", "lora_B")] @ a
    return found


def test_a_level_is_instruct_plus_lambda_times_the_product(plan, written):
    levels, folder = written
    instruct = {name: t.double().numpy() for name, t in load_file(plan.pair.instruct.files[0]).items()}
    thinking = {name: t.double().numpy() for name, t in load_file(plan.pair.thinking.files[0]).items()}
    whole = added(folder)
    assert len(whole) == 42
    for lam, name in zip(levels.lams, levels.names, strict=True):
        found = added(folder / name)
        assert found.keys() == whole.keys()
        for weight, product in found.items():
            wanted = instruct[weight] + lam * whole[weight]
            np.testing.assert_allclose(instruct[weight] + product, wanted, rtol=0, atol=1e-12)
            # At full rank this is interpolation itself.
            mixture = lam * thinking[weight] + (1 - lam) * instruct[weight]
            error = np.linalg.norm(wanted - mixture) / np.linalg.norm(thinking[weight] - instruct[weight])
            assert error < 1e-5


def test_the_levels_share_one_weights_file_where_they_can(written, plan, tmp_path, monkeypatch):
    levels, folder = written
    assert [path.name for path in sorted(folder.glob("mull@*"))] == levels.names == ["mull@0.3", "mull@0.65", "mull@1"]
    assert all((folder / name / WEIGHTS).samefile(folder / WEIGHTS) for name in levels.names)

    def refuse(source, target):
        raise OSError("no hard links here")

    monkeypatch.setattr(levels_module.os, "link", refuse)
    other = tmp_path / "other"
    other.mkdir()
    (other / WEIGHTS).write_bytes(b"weights")
    write_levels(levels, plan, other)
    assert (other / "mull@1" / WEIGHTS).read_bytes() == b"weights"


def test_template_and_sampling_defaults_are_thinkings(written, plan):
    _, folder = written
    assert (folder / "chat_template.jinja").read_text() == plan.pair.thinking.tokenizer.chat_template
    kept = json.loads((folder / "generation_config.json").read_text())
    assert kept == plan.pair.thinking.generation_config


def test_the_script_starts_vllm_in_its_folder_with_further_options(written, plan, tmp_path):
    levels, folder = written
    script = (folder / "serve.sh").read_text()
    assert script == serve_script(levels, plan)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "vllm").write_text('#!/bin/sh\npwd\nfor each in "$@"; do echo "$each"; done\n')
    (programs / "vllm").chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    command = ["sh", str(folder / "serve.sh"), "--port", "81"]
    where, *words = subprocess.run(command, capture_output=True, text=True, env=environment).stdout.splitlines()
    assert where == str(folder)
    base = str(plan.pair.instruct.folder.resolve())
    assert words == shlex.split(
        f"serve {base} --served-model-name mull@0 --enable-lora --max-lora-rank 128 --max-loras 4 "
        "--chat-template chat_template.jinja --generation-config . "
        "--lora-modules mull@0.3=mull@0.3 mull@0.65=mull@0.65 mull@1=mull@1 --port 81"
    )


@pytest.mark.parametrize(("rank", "most"), [(1, 8), (8, 8), (9, 16), (64, 64), (65, 128), (257, 320), (512, 512)])
def test_the_rank_that_vllm_is_told(rank, most):
    assert max_lora_rank(rank) == most


@pytest.mark.parametrize(("config", "refused"), [(Qwen2Config, "qwen2"), (LlamaConfig, None)])
def test_an_output_head_that_vllm_takes_no_adapter_of(tmp_path, config, refused):
    for seed, side in enumerate(("instruct", "thinking")):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config(**SIZES, tie_word_embeddings=False))
        model.save_pretrained(tmp_path / side)
    pair = Pair.open(*(str(tmp_path / side) for side in ("instruct", "thinking")), donor="instruct")
    assert refused_head(plan_low_rank(pair, 4)) == refused
    assert refused_head(plan_low_rank(pair, 4, modules=["attention", "ffn"])) is None


def test_what_cannot_be_served_is_refused():
    with pytest.raises(MullError, match="513 is above 512"):
        max_lora_rank(513)
    for name in ("a b", "a=b", "a@b", "../a", "a,b", ""):
        with pytest.raises(MullError, match="no name of levels"):
            Levels.of(name, [0.5])
    with pytest.raises(MullError, match="no level lies above 0"):
        Levels.of("mull", [0.0])
    assert Levels.of("mull", [1, 0.5, 0, 0.5]).lams == (0.5, 1.0)
