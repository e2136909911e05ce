"""The architectures that the training recipe is used with: the built-in pair's own, and others for comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import transformers
from transformers import PreTrainedModel

from training.vocabulary import VOCABULARY

_SHARED = {
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
    "attention_bias": False,
    "hidden_act": "silu",
    "initializer_range": 0.02,
}


@dataclass(frozen=True)
class Family:
    """One architecture: transformers' config class, a description, and the values of the config."""

    config_class: str
    about: str
    values: dict[str, Any]
    rope_theta: float = 10000.0

    def new_model(self) -> PreTrainedModel:
        """The model with random weights, in float32, with eager attention.

        Eager, because on CPU the backward pass of the fused kernel takes half of the whole training time.
        """
        config = getattr(transformers, self.config_class)(**self.values, rope_theta=self.rope_theta)
        return transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().train()


FAMILIES = {
    "qwen3": Family("Qwen3Config", "Qwen3: q/k norms, tied embeddings", _SHARED),
    "qwen3-small": Family(
        "Qwen3Config",
        "Qwen3, smaller",
        {**_SHARED, "hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 5, "head_dim": 24},
    ),
    "llama": Family("LlamaConfig", "Llama: no q/k norm, untied embeddings", {**_SHARED, "tie_word_embeddings": False}),
    "window": Family(
        "MistralConfig",
        "Mistral: a sliding window of 96 tokens in every layer",
        {**_SHARED, "sliding_window": 96},
    ),
    "moe": Family(
        "Qwen3MoeConfig",
        "Qwen3-MoE: 8 experts, 2 a token",
        {
            **_SHARED,
            "num_experts": 8,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 128,
            "norm_topk_prob": True,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
        },
    ),
}
