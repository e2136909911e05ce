"""Finds the layer and the module kind of a parameter from its name.

The names are those in safetensors files and transformers models; no model library is needed.
"""

from __future__ import annotations

import re
from typing import Literal, get_args

ModuleKind = Literal["attention", "ffn", "norm", "embedding", "lm_head", "other"]
MODULE_KINDS: tuple[ModuleKind, ...] = get_args(ModuleKind)
"""Every parameter has exactly one of these kinds."""

ModulePart = Literal["experts", "shared_experts", "router", "linear_attention", "vision", "audio", "mtp"]
MODULE_PARTS: tuple[ModulePart, ...] = get_args(ModulePart)
"""More specific selectors: parts of ffn, of attention, and parts outside the language model."""

OTHERS_SAY: dict[str, ModuleKind | ModulePart] = {
    **dict.fromkeys(("mlp", "mlps", "feedforward", "ff", "dense"), "ffn"),
    **dict.fromkeys(("attn", "selfattn", "selfattention", "mha", "qkv"), "attention"),
    **dict.fromkeys(("head", "lmhead", "output", "unembed", "unembedding"), "lm_head"),
    **dict.fromkeys(("embed", "embedtokens", "embeddings", "wte", "tokenembedding"), "embedding"),
    **dict.fromkeys(("norms", "layernorm", "rmsnorm", "ln"), "norm"),
    **dict.fromkeys(("expert", "moe"), "experts"),
    **dict.fromkeys(("gate", "gates", "routers"), "router"),
    **dict.fromkeys(("mamba", "ssm", "linearattn", "conv"), "linear_attention"),
    **dict.fromkeys(("visual", "visiontower", "vit"), "vision"),
}
"""What parameters' names and other tools call the selectors, in small letters and digits alone."""

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")

# Parts outside the language model; they number their own layers.
_OUTSIDE_PARTS: tuple[tuple[ModulePart, re.Pattern[str]], ...] = (
    ("mtp", re.compile(r"(^|\.)mtp(_\w+)?\.")),
    (
        "vision",
        re.compile(
            r"(^|\.)(visual|vision_(tower|model|encoder)|image_embed|embed_vision|multi_modal_projector|mm_projector)\."
        ),
    ),
    ("audio", re.compile(r"(^|\.)(audio_(tower|model|encoder|embed)|embed_audio|talker|code2wav|token2wav)\.")),
)

_OUTSIDE = re.compile("|".join(pattern.pattern for _, pattern in _OUTSIDE_PARTS))

# Hybrid models name the module of every block `mixer`, `mamba` or `conv`; the names inside it show its kind.
_FFN_IN_MIXER = r"(gate|router|experts|shared_experts?|(gate|up|down)_proj|fc\d_latent_proj)\."
_LINEAR = re.compile(rf"\.(linear_attn|mamba)\.|\.layers\.\d+\.conv\.|\.mixer\.(?!{_FFN_IN_MIXER}|[qkvo]_proj\.)")
_KINDS: tuple[tuple[ModuleKind, re.Pattern[str]], ...] = (
    ("lm_head", re.compile(r"(^|\.)(lm_head|embed_out|output_projection)\.")),
    (
        "embedding",
        re.compile(
            r"(^|\.)(embed_tokens|embed_positions|wte|wpe|word_embeddings|embed_in)\.|^(model|backbone)\.embeddings\."
        ),
    ),
    # A norm inside the attention module (q_norm, k_norm) counts as attention, as part of that module.
    (
        "attention",
        re.compile(
            r"\.(self_attn|attn|attention|self_attention|temporal_block)\.|\.mixer\.[qkvo]_proj\.|" + _LINEAR.pattern
        ),
    ),
    (
        "ffn",
        re.compile(
            r"\.(mlps?|mlp_block|shared_mlp|ffn|feed_forward|block_sparse_moe|moe|experts|shared?_experts?|router)\."
            r"|\.layers\.\d+\.fc[12]\.|\.mixer\." + _FFN_IN_MIXER
        ),
    ),
    ("norm", re.compile(r"(norm(_f|_?\d)?|ln_f|ln_?\d)(\.|$)")),
)
# The gate of a shared expert only scales that expert, so it counts as part of it, not as router.
_FFN_PARTS: tuple[tuple[ModulePart, re.Pattern[str]], ...] = (
    ("shared_experts", re.compile(r"\.shared?_experts?(_gate)?\.")),
    ("router", re.compile(r"\.(gate|router)\.|\.(gate_weight|router_bias|expert_bias|e_score_correction_bias)$")),
    ("experts", re.compile(r"\.experts\.")),
)


def layer_of(name: str) -> int | None:
    """The transformer block's index in `name`, or None outside the blocks (embeddings, final norm, lm_head).

    Parts outside the language model (a vision tower, a multi-token prediction head) have no layers in this sense.
    """
    found = None if _OUTSIDE.search(name) else _LAYER.search(name)
    return int(found.group(1)) if found else None


def module_kind(name: str) -> ModuleKind:
    """The kind of module that owns the parameter; "ffn" includes MoE experts, shared experts and router."""
    for kind, pattern in _KINDS:
        if pattern.search(name):
            return kind
    return "other"


def module_kinds(name: str) -> tuple[ModuleKind | ModulePart, ...]:
    """All selectors that match the parameter: its kind, and the parts it belongs to.

    - of ffn: `experts`, `shared_experts` (with their own gate), `router`;
    - of attention: `linear_attention`, if it is a separate module (`linear_attn`, Mamba, short convolutions);
    - outside the language model, with any kind: `vision` and `audio` (towers and projectors), `mtp` (multi-token
      prediction, if it is a separate module; DeepSeek and GLM store it as one more layer: select that layer).
    """
    kind = module_kind(name)
    part: ModulePart | None = None
    if kind == "ffn":
        part = next((part for part, pattern in _FFN_PARTS if pattern.search(name)), None)
    elif kind == "attention" and _LINEAR.search(name):
        part = "linear_attention"
    return (kind, *(found for found in (part, _outside_part(name)) if found))


def _outside_part(name: str) -> ModulePart | None:
    return next((part for part, pattern in _OUTSIDE_PARTS if pattern.search(name)), None)
