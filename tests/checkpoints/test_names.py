import pytest

from mull.checkpoints.names import MODULE_KINDS, MODULE_PARTS, layer_of, module_kind, module_kinds


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


@pytest.mark.parametrize(
    ("name", "layer", "kinds"),
    [
        # Qwen3-MoE, OLMoE; in memory transformers fuses the experts
        ("model.layers.3.mlp.experts.0.up_proj.weight", 3, "ffn experts"),
        ("model.layers.3.mlp.experts.gate_up_proj", 3, "ffn experts"),
        ("model.layers.3.mlp.gate.weight", 3, "ffn router"),
        ("model.layers.3.mlp.gate_proj.weight", 3, "ffn"),
        # Qwen3-Next, Qwen3.5
        ("model.layers.0.linear_attn.in_proj_qkvz.weight", 0, "attention linear_attention"),
        ("model.layers.0.linear_attn.norm.weight", 0, "attention linear_attention"),
        ("model.layers.3.self_attn.q_norm.weight", 3, "attention"),
        ("model.layers.0.mlp.shared_expert.up_proj.weight", 0, "ffn shared_experts"),
        ("model.layers.0.mlp.shared_expert_gate.weight", 0, "ffn shared_experts"),
        ("mtp.layers.0.mlp.experts.7.down_proj.weight", None, "ffn experts mtp"),
        ("mtp.fc.weight", None, "other mtp"),
        # DeepSeek-V3, GLM-4.5
        ("model.layers.3.mlp.gate.e_score_correction_bias", 3, "ffn router"),
        ("model.layers.3.mlp.shared_experts.down_proj.weight", 3, "ffn shared_experts"),
        ("model.layers.3.mlp.experts.255.down_proj.weight", 3, "ffn experts"),
        ("model.layers.0.mlp.down_proj.weight", 0, "ffn"),
        # gpt-oss, Phi-3.5-MoE
        ("model.layers.0.mlp.router.bias", 0, "ffn router"),
        ("model.layers.0.mlp.experts.gate_up_proj_bias", 0, "ffn experts"),
        ("model.layers.0.self_attn.sinks", 0, "attention"),
        # Llama-4
        ("language_model.model.layers.1.feed_forward.experts.down_proj", 1, "ffn experts"),
        ("language_model.model.layers.1.feed_forward.router.weight", 1, "ffn router"),
        ("language_model.model.layers.1.feed_forward.shared_expert.up_proj.weight", 1, "ffn shared_experts"),
        ("vision_model.model.layers.1.self_attn.q_proj.weight", None, "attention vision"),
        ("multi_modal_projector.linear_1.weight", None, "other vision"),
        # Mixtral, MiniMax-M2
        ("model.layers.1.block_sparse_moe.gate.weight", 1, "ffn router"),
        ("model.layers.1.block_sparse_moe.experts.5.w1.weight", 1, "ffn experts"),
        ("model.layers.1.block_sparse_moe.e_score_correction_bias", 1, "ffn router"),
        # Hybrids: Nemotron-H, Falcon-H1, Granite 4, LFM2
        ("backbone.embeddings.weight", None, "embedding"),
        ("backbone.layers.0.mixer.A_log", 0, "attention linear_attention"),
        ("backbone.layers.0.mixer.norm.weight", 0, "attention linear_attention"),
        ("backbone.layers.0.norm.weight", 0, "norm"),
        ("backbone.layers.2.mixer.q_proj.weight", 2, "attention"),
        ("backbone.layers.3.mixer.up_proj.weight", 3, "ffn"),
        ("backbone.layers.1.mixer.gate.weight", 1, "ffn router"),
        ("backbone.layers.1.mixer.experts.4.up_proj.weight", 1, "ffn experts"),
        ("backbone.layers.1.mixer.shared_experts.up_proj.weight", 1, "ffn shared_experts"),
        ("backbone.norm_f.weight", None, "norm"),
        ("model.layers.0.mamba.in_proj.weight", 0, "attention linear_attention"),
        ("model.layers.0.shared_mlp.input_linear.weight", 0, "ffn"),
        ("model.layers.0.conv.in_proj.weight", 0, "attention linear_attention"),
        ("model.layers.0.ffn_norm.weight", 0, "norm"),
        # Towers
        ("model.visual.blocks.5.norm1.weight", None, "norm vision"),
        ("model.visual.merger.linear_fc1.weight", None, "other vision"),
        ("thinker.audio_tower.layers.5.fc1.weight", None, "ffn audio"),
        ("talker.model.layers.5.mlp.gate.weight", None, "ffn router audio"),
    ],
)
def test_parts(name: str, layer: int | None, kinds: str) -> None:
    assert (layer_of(name), " ".join(module_kinds(name))) == (layer, kinds)
    assert module_kind(name) == module_kinds(name)[0]


def test_kinds_and_parts_are_different_words() -> None:
    assert not set(MODULE_KINDS) & set(MODULE_PARTS)
