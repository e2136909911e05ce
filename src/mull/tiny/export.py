"""Write one of the built-in models as a checkpoint folder that transformers (4 and 5) and vLLM read."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import Qwen3ForCausalLM

from mull.tiny.vocabulary import END, PAD, VOCABULARY, chat_template

CONFIG = {
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 1024,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
    "attention_bias": False,
    "hidden_act": "silu",
    "initializer_range": 0.02,
}
# As the Qwen3-2507 checkpoints ship them.
_SAMPLING = {
    "instruct": {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20},
    "thinking": {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 20},
}


def export(model: Qwen3ForCausalLM, tokenizer: Tokenizer, kind: str, folder: Path, record: dict) -> None:
    """Write config, tokenizer, template, bf16 weights and training record into `folder`, complete or not at all."""
    partial = folder.with_name(folder.name + ".partial")
    partial.mkdir(parents=True, exist_ok=True)
    end, pad = tokenizer.token_to_id(END), tokenizer.token_to_id(PAD)
    config = {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        **CONFIG,
        "eos_token_id": end,
        "pad_token_id": pad,
        "torch_dtype": "bfloat16",
        "use_cache": True,
    }
    generation = {**_SAMPLING.get(kind, {"do_sample": True}), "eos_token_id": [end, pad], "pad_token_id": pad}
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "pad_token": PAD,
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "model_max_length": CONFIG["max_position_embeddings"],
        "chat_template": chat_template(kind),
    }
    for name, content in {
        "config.json": config,
        "generation_config.json": generation,
        "tokenizer_config.json": tokenizer_config,
        "training.json": record,
    }.items():
        (partial / name).write_text(json.dumps(content, indent=2) + "\n")
    tokenizer.save(str(partial / "tokenizer.json"))
    weights = {name: p.detach().to(torch.bfloat16).contiguous() for name, p in model.named_parameters()}
    save_file(weights, partial / "model.safetensors", metadata={"format": "pt"})
    (partial / "model.safetensors").chmod(0o644)  # the safetensors library saves for the owner only
    partial.replace(folder)
