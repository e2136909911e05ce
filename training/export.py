"""Write one of the built-in models as a checkpoint folder that transformers (4 and 5) and vLLM read."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from training.vocabulary import END, PAD, chat_template

# As the Qwen3-2507 checkpoints ship them.
_SAMPLING = {
    "instruct": {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20},
    "thinking": {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 20},
}


def export(model: PreTrainedModel, tokenizer: Tokenizer, kind: str, folder: Path, record: dict) -> None:
    """Write config, tokenizer, template, bf16 weights and training record; `folder` appears when all are written."""
    partial = folder.with_name(folder.name + ".partial")
    partial.mkdir(parents=True, exist_ok=True)
    end, pad = tokenizer.token_to_id(END), tokenizer.token_to_id(PAD)
    # named_parameters() has one copy of tied weights; save_pretrained() writes each expert as a tensor of its own.
    weights = {name: p.detach().to(torch.bfloat16) for name, p in model.named_parameters()}
    model.save_pretrained(partial, state_dict=weights)
    values = model.config.to_diff_dict()
    for name in ("transformers_version", "dtype", "rope_parameters", "layer_types"):
        values.pop(name, None)  # derived values, or written below in the form that transformers 4 and 5 both read
    config = {
        **values,
        "architectures": [type(model).__name__],
        "rope_theta": model.config.rope_parameters["rope_theta"],
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
        "model_max_length": model.config.max_position_embeddings,
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
    (partial / "model.safetensors").chmod(0o644)  # safetensors writes files that only the owner may read
    partial.replace(folder)
