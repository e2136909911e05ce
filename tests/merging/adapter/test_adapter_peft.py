"""Adapters as the real `peft` reads them; skipped where it is not installed (it is no dependency of mull)."""

import copy
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen3Config, Qwen3MoeConfig

from mull.checkpoints.pair import Pair
from mull.merging.adapter.lowrank import plan_low_rank
from mull.merging.adapter.writing import WEIGHTS, extract
from mull.tiny import checkpoint_folder

peft = pytest.importorskip("peft")

TOKENS = torch.arange(3, 19)[None]
SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@torch.no_grad()
def logits(model):
    return model(input_ids=TOKENS).logits


@torch.no_grad()
def by_hand(folder, adapter, scale=1.0):
    """Instruct + scale·B·A, written without peft; what is stored whole takes the place of the Instruct's."""
    model = load(folder)
    live = dict(model.named_parameters())
    stored = {name.removeprefix("base_model.model."): t.float() for name, t in load_file(adapter / WEIGHTS).items()}
    for name, tensor in stored.items():
        if name.endswith("lora_A.weight"):
            target = live[name.replace("lora_A.", "")]
            target += scale * stored[name.replace("lora_A", "lora_B")] @ tensor
        elif "lora_" not in name:
            live[name].copy_(tensor)
    return model


def with_peft(folder, adapter):
    return peft.PeftModel.from_pretrained(load(folder), adapter).eval()


@pytest.fixture(scope="module")
def tiny():
    folders = [checkpoint_folder(kind) for kind in ("instruct", "thinking")]
    pair = Pair.open(*map(str, folders), donor="instruct")
    pair.check()
    return pair


def sides(pair):
    return pair.instruct.folder, pair.thinking.folder


def random_pair(folder, config, make=AutoModelForCausalLM.from_config):
    folders = []
    for seed, side in enumerate(("instruct", "thinking")):
        torch.manual_seed(seed)
        model = make(copy.deepcopy(config))
        for parameter in model.parameters():
            parameter.data = torch.randn(parameter.shape) * 0.2 + (parameter.data if parameter.dim() == 1 else 0)
        model.save_pretrained(folder / side)
        folders.append(str(folder / side))
    pair = Pair.open(*folders, donor="instruct")
    pair.check()
    return pair


@pytest.mark.parametrize(
    "settings",
    [{"rank": 8}, {"rank": 100}, {"rank": 8, "layers": (1, 1)}, {"rank": 8, "modules": ["ffn"], "dtype": "float32"}],
)
def test_peft_computes_instruct_plus_the_product(tiny, tmp_path, settings):
    extract(plan_low_rank(tiny, **settings), tmp_path / "out")
    model = with_peft(tiny.instruct.folder, tmp_path / "out")
    wanted = logits(by_hand(tiny.instruct.folder, tmp_path / "out"))
    torch.testing.assert_close(logits(model), wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits(model.merge_and_unload()), wanted, rtol=1e-4, atol=1e-4)
    assert (wanted - logits(load(tiny.instruct.folder))).abs().max() > 0.01


def test_scaling_the_adapter_is_lambda(tiny, tmp_path):
    extract(plan_low_rank(tiny, 16), tmp_path / "out")
    model = with_peft(tiny.instruct.folder, tmp_path / "out")
    for module in model.modules():
        if isinstance(module, peft.tuners.lora.LoraLayer):
            assert module.scaling["default"] == 1
            module.scale_layer(0.4)
    wanted = logits(by_hand(tiny.instruct.folder, tmp_path / "out", 0.4))
    torch.testing.assert_close(logits(model), wanted, rtol=1e-4, atol=1e-4)


def test_the_rest_stored_whole_is_thinking_itself(tiny, tmp_path):
    extract(plan_low_rank(tiny, 1000, dtype="float32"), tmp_path / "out", save_rest=True)
    model = with_peft(tiny.instruct.folder, tmp_path / "out")
    wanted = logits(by_hand(tiny.instruct.folder, tmp_path / "out"))
    torch.testing.assert_close(logits(model), wanted, rtol=1e-4, atol=1e-4)
    distances = [(logits(load(folder)) - logits(model)).abs().max() for folder in sides(tiny)]
    assert distances[1] < 0.01 * distances[0]  # what is left is the tied embedding, which hardly moved


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("config", [Qwen3Config, Qwen2Config])
def test_random_models(tmp_path, config, tied):
    pair = random_pair(tmp_path, config(**SIZES, tie_word_embeddings=tied))
    extract(plan_low_rank(pair, 32, dtype="float32"), tmp_path / "out", save_rest=True)
    model = with_peft(pair.instruct.folder, tmp_path / "out")
    wanted = logits(by_hand(pair.instruct.folder, tmp_path / "out"))
    torch.testing.assert_close(logits(model), wanted, rtol=1e-3, atol=1e-3)
    if config is Qwen3Config and not tied:  # without biases and a tied embedding nothing is left out
        torch.testing.assert_close(wanted, logits(load(pair.thinking.folder)), rtol=1e-3, atol=1e-3)


def test_experts_of_a_mixture_are_read_in_the_checkpoint_s_spelling(tmp_path):
    config = Qwen3MoeConfig(**SIZES, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24, head_dim=8)
    pair = random_pair(tmp_path, config)
    plan = plan_low_rank(pair, 16, dtype="float32")
    assert sum(".experts." in factors.module for factors in plan.factors) == 2 * 4 * 3
    extract(plan, tmp_path / "out")
    shutil.copytree(pair.instruct.folder, tmp_path / "sum")
    tensors = load_file(tmp_path / "sum" / "model.safetensors")
    stored = {name.removeprefix("base_model.model."): t for name, t in load_file(tmp_path / "out" / WEIGHTS).items()}
    for name, a in stored.items():
        if "lora_A" in name:
            tensors[name.replace("lora_A.", "")] += stored[name.replace("lora_A", "lora_B")] @ a
    save_file(tensors, tmp_path / "sum" / "model.safetensors", {"format": "pt"})
    wanted = logits(load(tmp_path / "sum"))
    torch.testing.assert_close(logits(with_peft(pair.instruct.folder, tmp_path / "out")), wanted, rtol=1e-3, atol=1e-3)
