"""Reads the architecture of a model from its config: of a published pair, which is shipped, or of any config.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from mull.checkpoints.config import checked, is_tied, text_config
from mull.errors import MullError, naming, nearest
from mull.planning.architecture import Architecture, Latent, Matrix

_LARGEST = 1 << 20
"""Bytes of a config.json."""


class _Family(NamedTuple):
    """What configs of a model type leave unsaid."""

    qk_norm: str = ""
    """Norms of queries and keys: of a head, of all heads, or none."""
    qkv_biases: bool | None = None
    """None: as `attention_bias` says."""


_FAMILIES = {
    "llama": _Family(),
    "mistral": _Family(qkv_biases=False),
    "qwen2": _Family(qkv_biases=True),
    "qwen3": _Family("head"),
    "qwen3_moe": _Family("head"),
    "olmo2": _Family("all"),
    "olmo3": _Family("all"),
    "deepseek_v3": _Family(),
}


def known() -> dict[str, Any]:
    """The published pairs whose configs are shipped: name → pair of hub ids, and config."""
    return json.loads(files("mull.planning").joinpath("models.json").read_text(encoding="utf-8"))


def find(model: str) -> Architecture:
    """The architecture of a known pair (its name, or a hub id of one of its checkpoints), of a config.json, or of a
    folder that has one.

    Raises:
        MullError: there is no such model or file, or its config is not one that can be counted.
    """
    models = known()
    for name, entry in models.items():
        if model in (name, *entry["pair"]):
            return of_config(entry["config"], name)
    path = Path(model)
    path = path / "config.json" if path.is_dir() else path
    if path.suffix != ".json" and not path.is_file():
        names = [*models, *(end for entry in models.values() for end in entry["pair"])]
        hint = nearest(model, names if "/" in model else models)
        raise MullError(f"unknown model {model!r}", f"{hint}{'' if hint.endswith('?') else '.'} Or give a config.json")
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST + 1)
        config = json.loads(text) if len(text) <= _LARGEST else None
    except OSError as error:
        raise MullError(f"cannot read {path}: {error.strerror}", "give a known model or a config.json") from None
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise MullError(f"{path} is no config.json", "give the config.json of a model")
    name = str(path.resolve().parent.name if path.name == "config.json" else path.stem)
    config = text_config(checked(config, path))
    with naming(path):
        return of_config(config, name)


def of_config(config: Mapping[str, Any], name: str) -> Architecture:
    """The architecture that a config describes. Raises `MullError` for a model type or quantisation that is not known
    here, and for sizes that are missing."""
    model_type = str(config.get("model_type"))
    family = _FAMILIES.get(model_type)
    if family is None:
        raise MullError(f"models of type {model_type!r} cannot be counted", nearest(model_type, _FAMILIES))

    def size(*keys: str, default: int | None = None) -> int:
        value = next((config[key] for key in keys if config.get(key) is not None), default)
        if type(value) is not int or value < (default is None):
            raise MullError(f"{keys[0]} must be a whole number, got {value!r}", "give the config.json of a model")
        return value

    layers, hidden, heads = size("num_hidden_layers"), size("hidden_size"), size("num_attention_heads")
    kv_heads = size("num_key_value_heads", default=heads)
    head_size = size("head_dim", default=hidden // heads)
    latent = None
    if model_type == "deepseek_v3":
        latent = Latent(
            queries=size("q_lora_rank"),
            keys=size("kv_lora_rank"),
            rotary=size("qk_rope_head_dim"),
            plain=size("qk_nope_head_dim"),
            values=size("v_head_dim"),
        )
    matrices, attention_norms = _attention(config, family, layers, hidden, heads, kv_heads, head_size, latent)
    experts = size("num_experts", "num_local_experts", "n_routed_experts", default=0)
    chosen = size("num_experts_per_tok") if experts else 0
    if chosen > experts:
        raise MullError(f"num_experts_per_tok {chosen} is more than {experts} experts")
    dense = layers
    if experts:  # in which layers they are
        step, plain = size("decoder_sparse_step", default=1), config.get("mlp_only_layers")
        plain = plain if isinstance(plain, list) else []
        first = size("first_k_dense_replace", default=0)
        dense = sum(i < first or i in plain or (i + 1) % max(1, step) > 0 for i in range(layers))
    wide, biases = size("intermediate_size", default=0 if experts and not dense else None), bool(config.get("mlp_bias"))
    expert = size("moe_intermediate_size") if experts else 0
    shared = expert * size("n_shared_experts", default=0)
    for kind, width, count, biased in (
        ("ffn", wide, dense, biases),
        ("experts", expert, (layers - dense) * experts, False),
        ("ffn", shared, layers - dense, False),
    ):
        if count and width:
            matrices += [Matrix(kind, hidden, width, 2 * count, biased), Matrix(kind, width, hidden, count, biased)]
    if experts:
        matrices.append(Matrix("router", hidden, experts, layers - dense))
    window, windowed = size("sliding_window", default=0), _windowed(config, model_type, layers)
    precision, block = _precision(config)
    return Architecture(
        name=name,
        layers=layers,
        hidden=hidden,
        vocabulary=size("vocab_size"),
        tied=bool(is_tied(dict(config))),
        heads=heads,
        kv_heads=kv_heads,
        head_size=head_size,
        latent=latent,
        matrices=tuple(matrices),
        norms=layers * (2 * hidden + attention_norms) + hidden,
        experts=experts,
        chosen=chosen,
        windowed=windowed if window else 0,
        window=window,
        precision=precision,
        block=block,
    )


def _attention(
    config: Mapping[str, Any],
    family: _Family,
    layers: int,
    hidden: int,
    heads: int,
    kv_heads: int,
    head_size: int,
    latent: Latent | None,
) -> tuple[list[Matrix], int]:
    """The matrices of attention in all layers, and the parameters of its norms in one."""
    stated = bool(config.get("attention_bias"))
    if latent is not None:
        shapes = [
            (hidden, latent.queries, stated),
            (latent.queries, heads * (latent.plain + latent.rotary), False),
            (hidden, latent.keys + latent.rotary, stated),
            (latent.keys, heads * (latent.plain + latent.values), False),
            (heads * latent.values, hidden, stated),
        ]
        norms = latent.queries + latent.keys
    else:
        biases = stated if family.qkv_biases is None else family.qkv_biases
        out = stated if family.qkv_biases is None else False
        queries, keys = heads * head_size, kv_heads * head_size
        shapes = [(hidden, queries, biases), *[(hidden, keys, biases)] * 2, (queries, hidden, out)]
        norms = {"": 0, "head": 2 * head_size, "all": queries + keys}[family.qk_norm]
    return [Matrix("attention", inputs, outputs, layers, biased) for inputs, outputs, biased in shapes], norms


def _windowed(config: Mapping[str, Any], model_type: str, layers: int) -> int:
    """How many layers have a sliding window, if the config has one."""
    kinds = config.get("layer_types")
    if kinds is None:
        return {"mistral": layers, "olmo3": layers - layers // 4}.get(model_type, 0)
    strange = set(kinds) - {"full_attention", "sliding_attention"}
    if strange:
        raise MullError(f"layers of type {min(strange)!r} cannot be counted")
    return sum(kind == "sliding_attention" for kind in kinds)


def _precision(config: Mapping[str, Any]) -> tuple[str, int]:
    """The dtype of the stored weights, and how many share a scale."""
    quantised = config.get("quantization_config")
    if quantised is not None:
        method = quantised.get("quant_method") if isinstance(quantised, Mapping) else quantised
        blocks = quantised.get("weight_block_size") if isinstance(quantised, Mapping) else None
        blocks = blocks if isinstance(blocks, list) else []
        if method != "fp8" or len(blocks) != 2 or not all(type(n) is int and n > 0 for n in blocks):
            raise MullError(
                f"weights quantised by {method!r} cannot be counted", "give the config.json of the bfloat16 checkpoint"
            )
        return "fp8", blocks[0] * blocks[1]
    dtype = str(config.get("dtype") or config.get("torch_dtype") or "bfloat16")
    if dtype not in ("bfloat16", "float16", "float32"):
        raise MullError(f"weights of dtype {dtype!r} cannot be counted")
    return dtype, 0
