"""What a parameter's name says: the layer it belongs to and the kind of module.

Names are those of safetensors files and of transformers' models; no model library is needed to read them.
"""

from __future__ import annotations

import re
from typing import Literal, get_args

ModuleKind = Literal["attention", "ffn", "norm", "embedding", "lm_head", "other"]
MODULE_KINDS: tuple[ModuleKind, ...] = get_args(ModuleKind)

_SIDE_MODEL = re.compile(r"(^|\.)(mtp|visual|vision_tower|vision_model|audio_tower)\.")  # they count their own layers
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")
_KINDS: tuple[tuple[ModuleKind, re.Pattern[str]], ...] = (
    ("lm_head", re.compile(r"(^|\.)(lm_head|embed_out|output_projection)\.")),
    ("embedding", re.compile(r"(^|\.)(embed_tokens|wte|wpe|word_embeddings|embed_in)\.")),
    # A norm inside the attention module (q_norm, k_norm) belongs to the attention: it goes where its module goes.
    ("attention", re.compile(r"\.(self_attn|attn|attention|linear_attn|self_attention)\.")),
    ("ffn", re.compile(r"\.(mlp|ffn|feed_forward|block_sparse_moe|experts|shared_experts?|router)\.")),
    ("norm", re.compile(r"(norm|ln_f|ln_\d)(\.|$)")),
)


def layer_of(name: str) -> int | None:
    """The transformer block's index in `name`, or None outside the blocks (embeddings, final norm, lm_head).

    Parts beside the language model (a vision tower, a head that predicts further tokens) have no layers in this sense.
    """
    found = None if _SIDE_MODEL.search(name) else _LAYER.search(name)
    return int(found.group(1)) if found else None


def module_kind(name: str) -> ModuleKind:
    """The kind of module that owns the parameter; "ffn" includes MoE experts, shared experts and router."""
    for kind, pattern in _KINDS:
        if pattern.search(name):
            return kind
    return "other"
