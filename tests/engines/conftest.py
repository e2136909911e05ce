"""Small random model pairs with a tokenizer, built by transformers' own classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    AutoModelForCausalLM,
    DeepseekV3Config,
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Olmo3Config,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)

VOCABULARY = 64
STOP = 5
COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "eos_token_id": STOP,
    "pad_token_id": 0,
    "bos_token_id": None,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
CONFIGS: dict[str, Callable[..., PretrainedConfig]] = {
    "qwen3": lambda **more: Qwen3Config(**COMMON | {"head_dim": 16} | more),
    "qwen3_moe": lambda **more: Qwen3MoeConfig(
        **COMMON | {"head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24} | more
    ),
    "llama": lambda **more: LlamaConfig(**COMMON | {"rope_parameters": LLAMA3_ROPE} | more),
    "qwen2": lambda **more: Qwen2Config(**COMMON | more),
    # Windows that prompts and responses outgrow: in every layer, in the later ones, in all but some.
    "mistral": lambda **more: MistralConfig(**COMMON | {"sliding_window": 12} | more),
    "qwen2_window": lambda **more: Qwen2Config(
        **COMMON | {"use_sliding_window": True, "sliding_window": 12, "max_window_layers": 1} | more
    ),
    "olmo3": lambda **more: Olmo3Config(
        **COMMON | {"sliding_window": 12, "layer_types": ["sliding_attention", "full_attention"]} | more
    ),
    "gemma2": lambda **more: Gemma2Config(**COMMON | {"sliding_window": 12, "head_dim": 16} | more),  # capped scores
    # Latent attention: the cache holds what keys and values are made from.
    "deepseek_v3": lambda **more: DeepseekV3Config(
        **COMMON
        | {"num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8}
        | {"qk_nope_head_dim": 8, "v_head_dim": 12, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 2}
        | {"topk_group": 1, "moe_intermediate_size": 16, "first_k_dense_replace": 1}
        | more
    ),
    "gemma3": lambda **more: Gemma3TextConfig(
        **COMMON | {"sliding_window": 12, "head_dim": 16, "layer_types": ["sliding_attention", "full_attention"]} | more
    ),
}


def random_model(
    config: PretrainedConfig, *, seed: int, dtype: torch.dtype = torch.float32, attention: str | None = None
) -> PreTrainedModel:
    """Random weights, large so that the model's choices differ."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention).to(dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            spread = 0.2 if "norm" in name else 0.15
            parameter.copy_(torch.randn(parameter.shape) * spread + (1.0 if "norm" in name else 0.0))
    return model.eval()


def own_model(folder: Path) -> PreTrainedModel:
    """The checkpoint as transformers runs it, in float32, with an attention that does all that the config says."""
    capped = "attn_logit_softcapping" in (folder / "config.json").read_text()  # "sdpa" does so from 5.21 on
    attention = "eager" if capped else None
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=attention).eval()


def save_model(
    folder: Path, config: PretrainedConfig, *, seed: int, dtype: torch.dtype = torch.float32, stop: int | None = None
) -> Path:
    """A random model with a tokenizer and a chat template."""
    model = random_model(config, seed=seed, dtype=dtype)
    model.generation_config.eos_token_id = stop if stop is not None else config.eos_token_id
    model.save_pretrained(folder)
    words = {f"w{i}": i for i in range(config.vocab_size)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=f"w{STOP}",
        pad_token="w0",
        chat_template="{% for m in messages %}w1 {{ m['content'] }} {% endfor %}"
        "{% if add_generation_prompt %}w2{% endif %}",
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path]]:
    """The folders of an Instruct and a Thinking model of a kind of `CONFIGS`, bfloat16, made once."""
    made: dict[str, tuple[Path, Path]] = {}

    def pair(kind: str) -> tuple[Path, Path]:
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            made[kind] = tuple(  # type: ignore[assignment]
                save_model(folder / side, CONFIGS[kind](), seed=seed, dtype=torch.bfloat16)
                for seed, side in enumerate(("instruct", "thinking"))
            )
        return made[kind]

    return pair


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Sharing such small products between threads costs more than it gives."""
    torch.set_num_threads(1)
