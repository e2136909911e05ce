import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from mull.checkpoints.config import is_tied, rope, structure, text_config, token_ids, untied

SIZES = {
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 4,
    "intermediate_size": 128,
    "vocab_size": 99,
}
# Configs as releases before transformers 5 spell them.
OLDER: dict[str, dict[str, Any]] = {
    "qwen3": {
        "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 1,
        "eos_token_id": 2, "head_dim": 128, "hidden_act": "silu", "initializer_range": 0.02, "max_window_layers": 36,
        "max_position_embeddings": 262144, "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_scaling": None,
        "rope_theta": 5000000, "sliding_window": None, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
        "use_cache": True, "use_sliding_window": False,
    },
    "qwen2": {
        "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 131072,
        "use_sliding_window": False, "max_window_layers": 4, "tie_word_embeddings": False, "hidden_act": "silu",
    },
    "qwen3_moe": {
        "decoder_sparse_step": 1, "head_dim": 16, "mlp_only_layers": [], "moe_intermediate_size": 32,
        "norm_topk_prob": True, "num_experts": 4, "num_experts_per_tok": 2, "num_key_value_heads": 2,
        "output_router_logits": False, "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 10000000,
        "router_aux_loss_coef": 0.001, "sliding_window": None, "use_sliding_window": False, "hidden_act": "silu",
        "max_window_layers": 48, "tie_word_embeddings": False,
    },
    "llama": {
        "attention_bias": False, "hidden_act": "silu", "mlp_bias": False, "num_key_value_heads": 2,
        "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "max_position_embeddings": 131072,
        "rope_scaling": {
            "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192, "rope_type": "llama3",
        },
        "tie_word_embeddings": False,
    },
    "olmo2": {
        "attention_bias": False, "hidden_act": "silu", "num_key_value_heads": 4, "rms_norm_eps": 1e-06,
        "rope_scaling": None, "rope_theta": 500000, "tie_word_embeddings": False,
    },
    "olmo3": {
        "attention_bias": False, "hidden_act": "silu", "num_key_value_heads": 4, "rms_norm_eps": 1e-06,
        "rope_theta": 500000, "sliding_window": 4096, "max_position_embeddings": 65536, "tie_word_embeddings": False,
        "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"],
        "rope_scaling": {
            "attention_factor": 1.2079441541679836, "beta_fast": 32.0, "beta_slow": 1.0, "factor": 8.0,
            "original_max_position_embeddings": 8192, "rope_type": "yarn",
        },
    },
}  # fmt: skip


@pytest.mark.parametrize("model_type", OLDER)
def test_a_config_saved_again_by_a_newer_release_is_the_same(tmp_path: Path, model_type: str) -> None:
    older = {"model_type": model_type, **SIZES, **OLDER[model_type]}
    (tmp_path / "config.json").write_text(json.dumps(older))
    AutoConfig.from_pretrained(tmp_path).save_pretrained(tmp_path / "again")
    newer = json.loads((tmp_path / "again" / "config.json").read_text())
    assert "rope_parameters" in newer and "rope_theta" not in newer
    assert rope(newer) == rope(older)
    left, right = structure(newer), structure(older)
    extra = {key: left[key] for key in left.keys() - right.keys()}
    assert {key: left[key] for key in right} == right
    assert extra == {}


SEVEN = {"rope_theta": 7}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"rope_theta": 5000000}, {"rope_theta": 5e6, "rope_scaling": None}),
        ({"rope_theta": 5000000}, {"rope_parameters": {"rope_theta": 5000000.0, "rope_type": "default"}}),
        ({"rope_theta": 1e6, "rope_scaling": {**YARN}}, {"rope_parameters": {**YARN, "rope_theta": 1000000}}),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
        ({"rope_scaling": {"type": "linear", "rope_type": "linear"}}, {"rope_scaling": {"type": "linear"}}),
        ({"rope_theta": 7.0}, {"rope_parameters": {"full_attention": SEVEN, "sliding_attention": SEVEN}}),
        (
            {"rope_theta": 1000000, "rope_local_base_freq": 10000},
            {"rope_parameters": {"sliding_attention": {"rope_theta": 1e4}, "full_attention": {"rope_theta": 1e6}}},
        ),
        (
            {"rope_theta": 7, "max_position_embeddings": 64, "rope_scaling": {"rope_type": "yarn", "factor": 2}},
            {**SEVEN, "rope_scaling": {"rope_type": "yarn", "factor": 2, "original_max_position_embeddings": 64}},
        ),
        ({**SEVEN, "partial_rotary_factor": 0.5}, {"rope_parameters": {**SEVEN, "partial_rotary_factor": 0.5}}),
        ({"text_config": {"rope_theta": 7}}, {"rope_theta": 7}),
        ({"rope_theta": None}, {}),
    ],
)  # fmt: skip
def test_equal_rotary_parameters_in_two_spellings(left: dict[str, Any], right: dict[str, Any]) -> None:
    assert rope(left) == rope(right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"rope_theta": 5000000}, {"rope_parameters": {"rope_theta": 1000000, "rope_type": "default"}}),
        ({"rope_theta": 7}, {"rope_theta": 7, "rope_scaling": {**YARN}}),
        ({"rope_theta": 7, "rope_scaling": {**YARN}}, {"rope_parameters": {**YARN, "rope_theta": 7, "factor": 8}}),
        (SEVEN, {"rope_parameters": {"full_attention": SEVEN, "sliding_attention": {"rope_theta": 8}}}),
        ({"rope_theta": 7}, {"rope_theta": 7, "partial_rotary_factor": 0.25}),
    ],
)  # fmt: skip
def test_different_rotary_parameters(left: dict[str, Any], right: dict[str, Any]) -> None:
    assert rope(left) != rope(right)


HEADS = {"num_attention_heads": 4, "hidden_size": 64}


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ({"torch_dtype": "bfloat16", "use_cache": True}, {"dtype": "float32"}, True),
        ({"num_attention_heads": 4}, {"num_attention_heads": 4, "num_key_value_heads": 4}, True),
        (HEADS, {**HEADS, "head_dim": 16}, True),
        (HEADS, {**HEADS, "head_dim": 32}, False),
        ({"sliding_window": 4096, "use_sliding_window": False}, {"use_sliding_window": False}, True),
        ({"sliding_window": 4096, "use_sliding_window": True}, {"use_sliding_window": True}, False),
        ({"sliding_window": 4096}, {"sliding_window": 512}, False),
        ({"layer_types": ["full_attention"] * 3}, {}, True),
        ({"layer_types": ["sliding_attention", "full_attention"]}, {}, False),
        ({"text_config": {"hidden_size": 64}}, {"hidden_size": 64}, True),
        ({"num_experts": 8}, {"num_experts": 16}, False),
        ({"num_experts": None}, {}, True),
        ({"num_experts": 8}, {"num_local_experts": 8}, True),
    ],
)  # fmt: skip
def test_structure(left: dict[str, Any], right: dict[str, Any], same: bool) -> None:
    assert (structure(left) == structure(right)) is same


def test_small_readers() -> None:
    assert token_ids({"eos_token_id": 1}, {"eos_token_id": [3, 2]}, "eos_token_id") == [2, 3]
    assert token_ids({"eos_token_id": 1}, {}, "eos_token_id") == [1]
    assert token_ids({}, {}, "pad_token_id") == []
    assert is_tied({}) is None
    assert is_tied({"text_config": {"tie_word_embeddings": False}}) is False
    nested = untied({"tie_word_embeddings": True, "text_config": {"tie_word_embeddings": True, "a": 1}})
    assert nested == {"tie_word_embeddings": False, "text_config": {"tie_word_embeddings": False, "a": 1}}
    assert text_config({"a": 1, "text_config": {"a": 2}})["a"] == 2
