"""Normalises config.json: one form for settings that versions of transformers write in different ways.

`rope_theta`/`rope_scaling` and the newer `rope_parameters` (flat, or nested per layer type) become one form, and so
do `torch_dtype` and `dtype`. Knows no model library; the file itself is never rewritten.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mull.errors import MullError

# Settings that may differ between two fine-tunes of one model, because they do not change what the weights mean.
_NOT_STRUCTURE = {
    "_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache", "bos_token_id", "eos_token_id",
    "pad_token_id", "max_position_embeddings", "rope_theta", "rope_scaling", "rope_parameters", "vocab_size",
    "tie_word_embeddings", "initializer_range", "architectures", "model_type", "quantization_config",
    "attention_dropout", "resid_pdrop", "embd_pdrop", "hidden_dropout", "output_router_logits",
    "router_aux_loss_coef", "rope_local_base_freq", "partial_rotary_factor", "pretraining_tp", "auto_map",
    "return_dict", "output_attentions", "output_hidden_states", "_attn_implementation", "chunk_size_feed_forward",
    "id2label", "label2id", "problem_type", "is_encoder_decoder", "original_max_position_embeddings",
}  # fmt: skip
# A missing setting has this value; releases of transformers differ in which defaults they write.
_DEFAULTS = {
    "attention_bias": False, "mlp_bias": False, "use_sliding_window": False,
    "hidden_act": "silu", "mlp_only_layers": [],
}  # fmt: skip
_RENAMED = {"num_experts": "num_local_experts"}
# Their older configs have one flat `rope_scaling`, which only applies to the layers with full attention.
_SCALES_FULL_ATTENTION_ONLY = {"olmo3"}


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < _MOST


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MOST


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_token(value: Any) -> bool:
    """Some old configs have −1 for a token that is not there."""
    return all(type(each) is int and -1 <= each < 1 << 31 for each in (value if isinstance(value, list) else [value]))


def _is_rope(value: Any) -> bool:
    """One group of rotary parameters, or one for each layer type, some of which may be null."""
    if not isinstance(value, dict):
        return False
    groups = [each for each in value.values() if isinstance(each, dict)]
    whole = not groups or all(each is None or isinstance(each, dict) for each in value.values())
    bases = [group.get("rope_theta") for group in (value, *groups)]
    return whole and all(base is None or _is_number(base) for base in bases)


_MOST = 1 << 53
_FORMS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "model_type": ("a text", lambda value: isinstance(value, str)),
    "text_config": ("an object", lambda value: isinstance(value, dict)),
    "tie_word_embeddings": ("true or false", lambda value: isinstance(value, bool)),
    **dict.fromkeys(("architectures", "layer_types"), ("a list of texts", _is_texts)),
    **dict.fromkeys(("eos_token_id", "pad_token_id"), ("a token id or a list of them", _is_token)),
    **dict.fromkeys(("rope_scaling", "rope_parameters"), ("an object of rotary parameters", _is_rope)),
    **dict.fromkeys(
        ("num_hidden_layers", "num_attention_heads", "hidden_size", "vocab_size"), ("a whole number", _is_count)
    ),
    **dict.fromkeys(
        ("rope_theta", "rope_local_base_freq", "partial_rotary_factor", "max_position_embeddings"),
        ("a number", _is_number),
    ),
}
"""What an entry that mull computes with must be, if it is there and not null."""


def checked(config: dict[str, Any], path: Path) -> dict[str, Any]:
    """The config or generation config that was read from `path`. Raises `MullError` for an entry of the wrong type."""
    inner = config.get("text_config")
    for level in (config, inner if isinstance(inner, dict) else {}):
        for key, (form, test) in _FORMS.items():
            value = level.get(key)
            if value is not None and not test(value):
                raise MullError(f"{key} in {path} is not {form}", "download or save this file again")
    return config


def text_config(config: dict[str, Any]) -> dict[str, Any]:
    """The language model's part of a multimodal config, or the config itself."""
    inner = config.get("text_config")
    return {**config, **inner} if isinstance(inner, dict) else config


def structure(config: dict[str, Any]) -> dict[str, Any]:
    """All settings that decide how the weights are used: sizes, heads, activation, experts, epsilon …"""
    plain = {k: v for k, v in text_config(config).items() if k not in _NOT_STRUCTURE and k != "text_config"}
    plain = {k: v for k, v in plain.items() if v is not None and not (k in _DEFAULTS and v == _DEFAULTS[k])}
    for older, newer in _RENAMED.items():
        if older in plain:
            plain.setdefault(newer, plain.pop(older))
    # Drop a sliding window that is switched off, and layer types that are all full attention, the default.
    if not plain.get("use_sliding_window", "use_sliding_window" not in text_config(config)):
        for key in ("sliding_window", "max_window_layers"):
            plain.pop(key, None)
    if set(plain.get("layer_types") or ["full_attention"]) == {"full_attention"}:
        plain.pop("layer_types", None)
    heads = plain.get("num_attention_heads")
    if heads and plain.get("num_key_value_heads") is None:
        plain["num_key_value_heads"] = heads
    if heads and plain.get("head_dim") is None and plain.get("hidden_size"):
        plain["head_dim"] = plain["hidden_size"] // heads
    return plain


def rope(config: dict[str, Any]) -> dict[str, Any]:
    """Rotary parameters in one form: {layer type or "all": {"rope_theta": …, "rope_type": …, …}}."""
    config = text_config(config)
    parameters = config.get("rope_parameters")
    if not isinstance(parameters, dict):
        parameters = _older_spelling(config)
    nested = any(isinstance(value, dict) for value in parameters.values())
    groups = parameters if nested else {"all": parameters}
    result = {layer_type: _rope_group(values or {}, config) for layer_type, values in groups.items()}
    distinct = {repr(values) for values in result.values()}
    return {"all": next(iter(result.values()))} if len(distinct) == 1 else result


def _older_spelling(config: dict[str, Any]) -> dict[str, Any]:
    """`rope_theta` and `rope_scaling` in the newer form of `rope_parameters`."""
    scaling = config.get("rope_scaling")
    scaling = scaling if isinstance(scaling, dict) else {}
    local = config.get("rope_local_base_freq")
    if local:  # Gemma 3
        return {"full_attention": scaling, "sliding_attention": {"rope_theta": local}}
    if config.get("model_type") in _SCALES_FULL_ATTENTION_ONLY and scaling:
        return {"full_attention": scaling, "sliding_attention": {}}
    return scaling


def _rope_group(values: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """The parameters of one layer type, completed from the config and by what transformers takes for absent ones."""
    values = {key: value for key, value in values.items() if value is not None}
    kind = values.pop("type", "default")
    values.setdefault("rope_type", kind)
    values.setdefault("rope_theta", config.get("rope_theta") or 10000.0)
    if config.get("partial_rotary_factor"):
        values.setdefault("partial_rotary_factor", config["partial_rotary_factor"])
    if values["rope_type"] in ("llama3", "yarn", "longrope"):
        length = config.get("original_max_position_embeddings") or config.get("max_position_embeddings")
        values.setdefault("original_max_position_embeddings", length)
    return {key: float(v) if isinstance(v, int) and not isinstance(v, bool) else v for key, v in sorted(values.items())}


def token_ids(config: dict[str, Any], generation: dict[str, Any], key: str) -> list[int]:
    """`eos_token_id` or `pad_token_id` as a sorted list, from the generation config if it has it."""
    value = generation.get(key, text_config(config).get(key))
    if value is None:
        return []
    return sorted(value) if isinstance(value, list) else [value]


def is_tied(config: dict[str, Any]) -> bool | None:
    """Whether the output head shares the embedding's weights; None if the config does not say."""
    stated = config.get("tie_word_embeddings", text_config(config).get("tie_word_embeddings"))
    return None if stated is None else bool(stated)


def untied(config: dict[str, Any]) -> dict[str, Any]:
    """The config of a model that stores its output head."""
    inner = config.get("text_config")
    nested = {"text_config": {**inner, "tie_word_embeddings": False}} if isinstance(inner, dict) else {}
    return {**config, **nested, "tie_word_embeddings": False}
