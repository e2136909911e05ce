"""Counts against transformers' models without weights, and against published figures."""

import json

import pytest
import torch
import torch._dynamo  # torch 2.6 cannot import it where tensors have no memory
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

from mull.errors import MullError
from mull.planning.configs import find, known, of_config


def built(config):
    """transformers' model of a config, on the device that has no memory."""
    plain = {key: value for key, value in config.items() if key != "quantization_config"}
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(**plain), dtype=torch.bfloat16)


SMALL = {
    "num_hidden_layers": 4, "hidden_size": 48, "intermediate_size": 80, "num_attention_heads": 6,
    "num_key_value_heads": 2, "head_dim": 10, "vocab_size": 99, "tie_word_embeddings": False, "pad_token_id": 0,
}  # fmt: skip
EXPERTS = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
LATENT = {
    "n_routed_experts": 8, "n_shared_experts": 2, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
    "first_k_dense_replace": 1, "q_lora_rank": 20, "kv_lora_rank": 12, "qk_nope_head_dim": 14, "qk_rope_head_dim": 6,
    "v_head_dim": 18, "num_key_value_heads": 6, "n_group": 1, "topk_group": 1,
}  # fmt: skip


@pytest.mark.parametrize("name", known())
def test_published_models_have_the_parameters_of_transformers(name):
    model = find(name)
    assert model.total == sum(parameter.numel() for parameter in built(known()[name]["config"]).parameters())


@pytest.mark.parametrize(
    ("name", "total", "active"),
    [
        ("Qwen3-4B", 4.02, 4.02),
        ("Qwen3-30B-A3B", 30.5, 3.3),
        ("Qwen3-235B-A22B", 235, 22),
        ("DeepSeek-V3", 671, 37),
    ],
)
def test_published_models_have_the_published_sizes(name, total, active):
    model = find(name)
    assert model.total / 1e9 == pytest.approx(total, rel=0.003)
    assert model.active() / 1e9 == pytest.approx(active, rel=0.02)


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "llama", "attention_bias": True, "mlp_bias": True},
        {"model_type": "llama", "tie_word_embeddings": True},
        {"model_type": "mistral"},
        {"model_type": "qwen2"},
        {"model_type": "qwen3", "attention_bias": True},
        {"model_type": "qwen3_moe", **EXPERTS},
        {"model_type": "qwen3_moe", **EXPERTS, "mlp_only_layers": [1]},
        {"model_type": "qwen3_moe", **EXPERTS, "decoder_sparse_step": 2},
        {"model_type": "olmo2"},
        {"model_type": "olmo3"},
        {"model_type": "deepseek_v3", **LATENT},
    ],
    ids=lambda config: "-".join(map(str, config.values()))[:40],
)
def test_other_families_have_the_parameters_of_transformers(config):
    config = {**SMALL, **config}
    if config["model_type"] in ("qwen2", "olmo2", "olmo3"):
        config["head_dim"] = 8  # these have heads of hidden_size / heads
    expected = sum(parameter.numel() for parameter in built(config).parameters())
    assert of_config(config, "x").total == expected


@pytest.mark.parametrize(
    ("config", "kilobytes"),
    [
        # Table 1 of "Insights into DeepSeek-V3" (2505.09343): keys and values of a token, 16-bit.
        (known()["DeepSeek-V3"]["config"], 70.272),
        ({"num_hidden_layers": 80, "hidden_size": 8192, "num_attention_heads": 64, "num_key_value_heads": 8}, 327.680),
        (
            {"num_hidden_layers": 126, "hidden_size": 16384, "num_attention_heads": 128, "num_key_value_heads": 8},
            516.096,
        ),
    ],
)
def test_keys_and_values_have_the_published_bytes(config, kilobytes):
    config = {"model_type": "llama", "vocab_size": 9, "intermediate_size": 9, **config}
    assert of_config(config, "x").kv_bytes(1) == kilobytes * 1000


@pytest.mark.parametrize(("tokens", "left_out"), [(3, 0), (7, 0), (20, 3)])
def test_keys_and_values_are_those_of_transformers_cache(tokens, left_out):
    sliding = {"sliding_window": 8, "layer_types": ["sliding_attention"] * 3 + ["full_attention"]}
    config = {**SMALL, "model_type": "olmo3", "head_dim": 8, **sliding}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=torch.bfloat16)
    cache = model(torch.zeros(1, tokens, dtype=torch.long), use_cache=True).past_key_values
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    # Full windows: transformers has dropped the position that the next token no longer sees, in each of three layers.
    assert held == of_config(config, "x").kv_bytes(tokens) - left_out * of_config(config, "x").kv_bytes(1) / 4


def test_operations_are_those_that_torch_counts():
    config = {**SMALL, "model_type": "qwen3"}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), attn_implementation="eager")
    tokens = 7
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, tokens, dtype=torch.long), use_cache=False)
    # Eager attention multiplies the whole square: every token with all of them. The table of rotary positions is a
    # further small product.
    assert counter.get_total_flops() == pytest.approx(tokens * of_config(config, "x").flops(tokens), rel=0.001)


def test_a_token_uses_its_experts_and_a_batch_all_of_them():
    model = find("Qwen3-30B-A3B")
    assert model.touched(1) == pytest.approx(8 / 128)
    assert model.touched(2) == pytest.approx(1 - (120 / 128) ** 2)
    assert model.touched(1000) == pytest.approx(1)
    read = model.weight_bytes(rows=1)
    assert read == pytest.approx(2 * (model.active() - model.vocabulary * model.hidden))
    assert model.weight_bytes(rows=1e6) == pytest.approx(2 * (model.total - model.vocabulary * model.hidden))


def test_fp8_blocks_take_a_byte_and_a_share_of_their_scale():
    model, plain = find("DeepSeek-V3"), find("DeepSeek-V3").dequantised()
    sixteen = sum(model.parameters()[kind] for kind in ("embedding", "lm_head", "norms", "router"))
    assert model.weight_bytes() == pytest.approx((model.total - sixteen) * (1 + 4 / 128**2) + 2 * sixteen)
    assert plain.weight_bytes() == 2 * model.total
    assert find("Qwen3-4B").dequantised() == find("Qwen3-4B")


def test_a_pair_is_found_by_its_name_its_hub_ids_and_a_config(tmp_path):
    entry = known()["Qwen3-30B-A3B"]
    assert find("Qwen3-30B-A3B") == find(entry["pair"][0]) == find(entry["pair"][1])
    (tmp_path / "config.json").write_text(json.dumps(entry["config"]))
    assert find(str(tmp_path)).total == find(str(tmp_path / "config.json")).total == find("Qwen3-30B-A3B").total
    nested = {"model_type": "some_vision", "text_config": {**entry["config"]}}
    (tmp_path / "config.json").write_text(json.dumps(nested))
    assert find(str(tmp_path)).matrices == find("Qwen3-30B-A3B").matrices


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("Qwen3-30B", "did you mean 'Qwen3-30B-A3B'"),
        ("Qwen/Qwen3-4B-Instruct", "did you mean 'Qwen/Qwen3-4B-Instruct-2507'"),
        ("missing/config.json", "cannot read missing/config.json"),
    ],
)
def test_unknown_models_are_refused(model, says):
    with pytest.raises(MullError, match="(?i)" + says):
        find(model)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model_type": "mamba"}, "models of type 'mamba' cannot be counted"),
        ({"hidden_size": None}, "hidden_size must be a whole number, got None"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must be"),
        ({"num_hidden_layers": "36"}, "num_hidden_layers"),
        ({"layer_types": ["linear_attention"] * 36}, "'linear_attention' cannot be counted"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised by 'gptq'"),
        ({"quantization_config": 7}, "quantised by 7"),
        ({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, "x"]}}, "quantised by 'fp8'"),
        ({"sliding_window": "x"}, "sliding_window must be"),
        ({"dtype": "int3"}, "dtype 'int3'"),
        ({"num_experts": 4, "num_experts_per_tok": 8, "moe_intermediate_size": 2}, "8 is more than 4 experts"),
    ],
)
def test_configs_that_cannot_be_counted_are_refused_by_name(tmp_path, change, says):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**known()["Qwen3-4B"]["config"], **change}))
    with pytest.raises(MullError, match=says) as raised:
        find(str(path))
    assert str(raised.value).count(str(path)) == 1


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 5000, "null"])
def test_a_file_that_is_no_config_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(MullError, match=r"is no config\.json"):
        find(str(tmp_path))
