import pytest

from mull.checkpoints.names import layer_of, module_kind


@pytest.mark.parametrize(
    ("name", "layer", "kind"),
    [
        ("model.embed_tokens.weight", None, "embedding"),
        ("lm_head.weight", None, "lm_head"),
        ("model.norm.weight", None, "norm"),
        ("model.layers.11.self_attn.q_proj.weight", 11, "attention"),
        ("model.layers.0.self_attn.k_proj.bias", 0, "attention"),
        ("model.layers.3.self_attn.q_norm.weight", 3, "attention"),
        ("model.layers.3.self_attn.kv_a_layernorm.weight", 3, "attention"),
        ("model.layers.3.linear_attn.A_log", 3, "attention"),
        ("model.layers.3.input_layernorm.weight", 3, "norm"),
        ("model.layers.3.post_attention_layernorm.weight", 3, "norm"),
        ("model.layers.3.post_feedforward_layernorm.weight", 3, "norm"),
        ("model.layers.3.mlp.down_proj.weight", 3, "ffn"),
        ("model.layers.3.mlp.experts.127.gate_proj.weight", 3, "ffn"),
        ("model.layers.3.mlp.gate.weight", 3, "ffn"),
        ("model.layers.3.mlp.shared_expert_gate.weight", 3, "ffn"),
        ("transformer.h.7.attn.c_attn.weight", 7, "attention"),
        ("transformer.h.7.ln_1.weight", 7, "norm"),
        ("transformer.wte.weight", None, "embedding"),
        ("model.language_model.layers.5.mlp.up_proj.weight", 5, "ffn"),
        ("model.visual.blocks.5.mlp.up_proj.weight", None, "ffn"),
        ("mtp.layers.0.mlp.gate.weight", None, "ffn"),
        ("model.scale", None, "other"),
    ],
)
def test_layer_and_kind(name: str, layer: int | None, kind: str) -> None:
    assert (layer_of(name), module_kind(name)) == (layer, kind)
