"""Merged folders as transformers loads them, against a model whose state dict was interpolated in memory."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging

from mull.checkpoints.pair import Pair, Side
from mull.merging.coefficients import Coefficients
from mull.merging.streaming.plan import plan_merge
from mull.merging.streaming.stream import merge

LAM = 0.7390851332151607
SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 64, "max_position_embeddings": 128, "pad_token_id": None,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32, "rope_theta": 500000.0,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "rope_theta": 500000.0}
KINDS: dict[str, dict[str, Any]] = {
    "qwen3": {"model_type": "qwen3", "head_dim": 8, "tie_word_embeddings": True},
    "qwen3_moe": {
        "model_type": "qwen3_moe", "head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2,
        "moe_intermediate_size": 16, "tie_word_embeddings": False,
    },
    "qwen2": {"model_type": "qwen2", "tie_word_embeddings": False},
    "llama": {"model_type": "llama", "rope_parameters": LLAMA3, "tie_word_embeddings": False},
    "olmo2": {"model_type": "olmo2", "tie_word_embeddings": False},
    "olmo3": {
        "model_type": "olmo3", "tie_word_embeddings": False, "sliding_window": 8,
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {"full_attention": YARN, "sliding_attention": {"rope_type": "default", "rope_theta": 5e5}},
    },
}  # fmt: skip
TOKENS = torch.tensor([[3, 17, 40, 2, 9, 63, 5, 5, 31, 12, 50, 1]])


@pytest.fixture(scope="module", autouse=True)
def quiet() -> None:
    logging.disable_progress_bar()


def save(
    kind: str, seed: int, folder: Path, *, dtype: torch.dtype = torch.bfloat16, shard: str = "5GB", **more: Any
) -> Path:
    options = {**SIZES, **KINDS[kind], **more}
    config = AutoConfig.for_model(**options)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in torch.nn.Module.parameters(model):  # biases and norms start constant
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)
    return folder


def names(folder: Path) -> set[str]:
    found: set[str] = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            found |= set(file.keys())
    return found


def load(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    loaded: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    model, info = loaded
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    return model.eval()


def mixed_in_memory(instruct: Path, thinking: Path, dtype: torch.dtype) -> PreTrainedModel:
    """The Thinking model with every parameter interpolated in float64 and rounded once."""
    left, model = (load(folder, dtype) for folder in (instruct, thinking))
    parameters = dict(left.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_((LAM * parameter.double() + (1 - LAM) * parameters[name].double()).to(dtype))
    return model


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model.float()(TOKENS).logits


def merged(
    instruct: Path, thinking: Path, out: Path, lam: float = LAM, *, donor: Side = "thinking", **options: Any
) -> Path:
    pair = Pair.open(str(instruct), str(thinking), donor=donor)
    pair.check()
    return merge(plan_merge(pair, Coefficients.scalar(lam), **options), out)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_of_every_architecture(tmp_path: Path, kind: str) -> None:
    """One side in one file, the other sharded."""
    instruct = save(kind, 0, tmp_path / "instruct", shard="20KB")
    thinking = save(kind, 1, tmp_path / "thinking")
    assert len(list(instruct.glob("*.safetensors"))) > 1
    out = merged(instruct, thinking, tmp_path / "out")
    assert names(out) == names(thinking) == names(instruct)
    if kind == "qwen3_moe":
        assert "model.layers.1.mlp.experts.3.gate_proj.weight" in names(out)
    if kind == "qwen2":
        assert "model.layers.0.self_attn.q_proj.bias" in names(out)
    wanted = mixed_in_memory(instruct, thinking, torch.bfloat16)
    assert torch.equal(logits(load(out, torch.bfloat16)), logits(wanted))
    assert (out / "config.json").read_bytes() == (thinking / "config.json").read_bytes()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_other_dtypes(tmp_path: Path, dtype: torch.dtype) -> None:
    instruct, thinking = (save("qwen3", seed, tmp_path / str(seed), dtype=dtype) for seed in (0, 1))
    out = merged(instruct, thinking, tmp_path / "out", shard_bytes=10_000)
    assert torch.equal(logits(load(out, dtype)), logits(mixed_in_memory(instruct, thinking, dtype)))


def test_a_float32_and_a_bfloat16_side(tmp_path: Path) -> None:
    instruct = save("qwen3", 0, tmp_path / "instruct", dtype=torch.float32)
    thinking = save("qwen3", 1, tmp_path / "thinking")
    for donor in ("instruct", "thinking"):
        dtype = torch.float32 if donor == "instruct" else torch.bfloat16
        out = merged(instruct, thinking, tmp_path / f"out-{donor}", donor=donor)
        left, right = (dict(load(folder, torch.float32).named_parameters()) for folder in (instruct, thinking))
        for name, parameter in load(out, dtype).named_parameters():
            wanted = (LAM * right[name].double() + (1 - LAM) * left[name].double()).to(dtype)
            assert torch.equal(parameter, wanted), name


def test_one_side_is_tied(tmp_path: Path) -> None:
    instruct = save("qwen3", 0, tmp_path / "instruct")
    thinking = save("qwen3", 1, tmp_path / "thinking", tie_word_embeddings=False)
    assert "lm_head.weight" in names(thinking) - names(instruct)
    out = merged(instruct, thinking, tmp_path / "out")
    model = load(out, torch.bfloat16)
    assert len(dict(model.named_parameters())) == len(names(out))
    assert torch.equal(logits(model), logits(mixed_in_memory(instruct, thinking, torch.bfloat16)))
    ends = merged(instruct, thinking, tmp_path / "end", 0.0)
    assert torch.equal(logits(load(ends, torch.bfloat16)), logits(load(instruct, torch.bfloat16)))


@pytest.mark.parametrize("who", ["thinking", "both"])
@pytest.mark.parametrize("lam", [1.0, LAM])
def test_another_head_beside_a_tied_config_is_kept(tmp_path: Path, who: str, lam: float) -> None:
    """By the config as a loader reads it that believes the config, and by one that looks at the weights."""
    folders = [save("qwen3", 0, tmp_path / "instruct"), save("qwen3", 1, tmp_path / "thinking")]
    generator = torch.Generator().manual_seed(2)
    for folder in folders[-1:] if who == "thinking" else folders:
        tensors = load_file(folder / "model.safetensors")
        tensors["lm_head.weight"] = torch.randn((64, 32), generator=generator).bfloat16()
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    out = merged(*folders, tmp_path / "out", lam)
    assert json.loads((out / "config.json").read_text())["tie_word_embeddings"] is False
    assert names(out) == names(folders[1])
    heads = []
    for folder in folders:
        tensors = load_file(folder / "model.safetensors")
        heads.append(tensors.get("lm_head.weight", tensors["model.embed_tokens.weight"]).double())
    kept = load_file(out / "model.safetensors")["lm_head.weight"]
    assert torch.equal(kept, (lam * heads[1] + (1 - lam) * heads[0]).bfloat16())
    if lam == 1:
        assert torch.equal(logits(load(out, torch.bfloat16)), logits(load(folders[1], torch.bfloat16)))


def test_padded_vocabularies(tmp_path: Path, write_tokenizer: Callable[[Path], None]) -> None:
    instruct = save("qwen2", 0, tmp_path / "instruct")
    thinking = save("qwen2", 1, tmp_path / "thinking", vocab_size=72)
    for folder in (instruct, thinking):
        write_tokenizer(folder)
    longer = load(merged(instruct, thinking, tmp_path / "longer"), torch.bfloat16)
    shorter = load(merged(instruct, thinking, tmp_path / "shorter", donor="instruct"), torch.bfloat16)
    assert torch.equal(logits(longer)[..., :64], logits(shorter))
    kept, given = (
        dict(model.named_parameters())["lm_head.weight"][64:] for model in (longer, load(thinking, torch.bfloat16))
    )
    assert torch.equal(kept, given.float())


@pytest.fixture
def write_tokenizer() -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        vocabulary = {f"token{i}": i for i in range(60)}
        (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}}))

    return write
