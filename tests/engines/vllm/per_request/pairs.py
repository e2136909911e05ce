"""Small random float32 pairs whose merged checkpoints lose nothing by rounding, and what transformers makes of these.

Heads of 32 numbers and a vocabulary that is no multiple of 64: the least that vLLM's CPU attention takes, and one
that it pads.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Olmo3Config,
    PretrainedConfig,
    Qwen2Config,
    Qwen2MoeConfig,
    Qwen3Config,
    Qwen3MoeConfig,
)

from tests.running import mull

COMMON: dict[str, Any] = {
    "vocab_size": 150,
    "hidden_size": 128,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 256,
    "eos_token_id": 5,
    "pad_token_id": 0,
    "bos_token_id": None,
}
WINDOWS = {"sliding_window": 12, "layer_types": ["sliding_attention", "full_attention"]}
CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "qwen3": lambda: Qwen3Config(**COMMON, tie_word_embeddings=True),
    "qwen2": lambda: Qwen2Config(**{k: v for k, v in COMMON.items() if k != "head_dim"}),  # biases
    "llama": lambda: LlamaConfig(**COMMON, attention_bias=True),
    "mistral": lambda: MistralConfig(**COMMON),
    "gemma2": lambda: Gemma2Config(**COMMON | {"sliding_window": 12}),  # capped scores and logits
    "gemma3": lambda: Gemma3TextConfig(**COMMON, **WINDOWS),
    "olmo3": lambda: Olmo3Config(**COMMON, **WINDOWS),  # vLLM runs transformers' code
    "qwen2_moe": lambda: Qwen2MoeConfig(  # one expert for all tokens beside the chosen ones
        **COMMON, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=64, shared_expert_intermediate_size=64
    ),
    "qwen3_moe": lambda: Qwen3MoeConfig(**COMMON, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=64),
}


class FloatPair(NamedTuple):
    instruct: Path
    thinking: Path

    def options(self, donor: str = "thinking") -> dict[str, Any]:
        """How vLLM is started on it."""
        ends = {"instruct": str(self.instruct), "thinking": str(self.thinking)}
        return {
            "model": ends[donor],
            "skip_tokenizer_init": True,
            "load_format": "mull",
            "quantization": "mull",
            "model_loader_extra_config": ends | {"donor": donor},
        }

    def merged(self, lam: float) -> Path:
        """The folder of the merged checkpoint, made once."""
        out = self.thinking.parent / f"merged-{lam}"
        if not out.exists():
            ends = "--instruct", self.instruct, "--thinking", self.thinking
            result = mull("merge", *ends, "--lambda", lam, "--out", out)
            assert result.returncode == 0, result.stderr
        return out


def float_pair(folder: Path, kind: str, **different: Any) -> FloatPair:
    """Both ends of a kind of `CONFIGS`, written to `folder`. `different`: entries of the Instruct side's config."""
    for seed, side in enumerate(("instruct", "thinking")):
        config = CONFIGS[kind]()
        if side == "instruct":
            config.update(different)
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config).float()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                shift = 1.0 if "norm" in name and "gemma" not in kind else 0.0
                parameter.copy_(torch.randn(parameter.shape) * 0.2 + shift)
        model.save_pretrained(folder / side)
        Tokenizer(WordLevel({f"w{i}": i for i in range(130)}, "w0")).save(str(folder / side / "tokenizer.json"))
    return FloatPair(folder / "instruct", folder / "thinking")


def reference(checkpoint: Path, prompt: list[int], tokens: list[int]) -> tuple[list[int], list[float]]:
    """What transformers would have chosen at each of the generated `tokens`, and the logprob of each."""
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    with torch.no_grad():
        logits = model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1].float()
    logprobs = logits.log_softmax(-1).gather(1, torch.tensor(tokens)[:, None])[:, 0]
    return logits.argmax(-1).tolist(), logprobs.tolist()
