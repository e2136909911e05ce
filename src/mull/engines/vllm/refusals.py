"""What mull's ways in vLLM do not go together with, by vLLM's configuration. Pure: reads attributes only."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from mull.errors import MullError

ANOTHER_WAY = "use `--engine vllm`, which sets one λ at a time, or serve a merged checkpoint"


class Refusal(NamedTuple):
    what: str
    """What was asked for, as a user calls it."""
    asked: Callable[[Any], bool]
    """Whether a `VllmConfig` has it."""
    remedy: str


def _at(path: str) -> Callable[[Any], Any]:
    """The value of `a.b.c` in a configuration; None where a part is missing."""

    def value(config: Any) -> Any:
        for part in path.split("."):
            config = getattr(config, part, None)
        return config

    return value


def _more_than(path: str, number: float) -> Callable[[Any], bool]:
    return lambda config: (_at(path)(config) or 0) > number


def _given(path: str) -> Callable[[Any], bool]:
    return lambda config: bool(_at(path)(config))


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "") not in ("", "0")


IN_PLACE = (
    Refusal("speculative decoding", _given("speculative_config"), "leave out --speculative-config"),
    Refusal("LoRA", _given("lora_config"), "leave out --enable-lora, or merge the adapter into both ends"),
    Refusal(
        "weights offloaded to the CPU", _more_than("offload_config.uva.cpu_offload_gb", 0), "leave out --cpu-offload-gb"
    ),
    Refusal(
        "weights offloaded to the CPU",
        _more_than("offload_config.prefetch.offload_group_size", 0),
        "leave out --offload-group-size",
    ),
)
"""Of weights that are set in place."""
PER_REQUEST = (
    *IN_PLACE,
    Refusal("dual batch overlap", _given("parallel_config.use_ubatching"), "leave out --enable-dbo and --ubatch-size"),
    Refusal(
        "expert parallelism", _given("parallel_config.enable_expert_parallel"), "leave out --enable-expert-parallel"
    ),
    Refusal(
        "sequence parallelism",
        _given("parallel_config.use_sequence_parallel_moe"),
        "leave out --enable-expert-parallel or --data-parallel-size",
    ),
    Refusal(
        "sequence parallelism",
        _given("compilation_config.pass_config.enable_sp"),  # not in every version
        "leave enable_sp out of --compilation-config",
    ),
    Refusal(
        "context parallelism",
        _more_than("parallel_config.prefill_context_parallel_size", 1),
        "leave out --prefill-context-parallel-size",
    ),
    Refusal(
        "context parallelism",
        _more_than("parallel_config.decode_context_parallel_size", 1),
        "leave out --decode-context-parallel-size",
    ),
    Refusal("vLLM's Rust front end", lambda _: _is_set("VLLM_USE_RUST_FRONTEND"), "unset VLLM_USE_RUST_FRONTEND"),
    Refusal("batch-invariant kernels", lambda _: _is_set("VLLM_BATCH_INVARIANT"), "unset VLLM_BATCH_INVARIANT"),
    Refusal("models that read images or sound", _given("model_config.is_multimodal_model"), ANOTHER_WAY),
    Refusal("prompts of embeddings", _given("model_config.enable_prompt_embeds"), "leave out --enable-prompt-embeds"),
    Refusal("pooling models", lambda config: _at("model_config.runner_type")(config) == "pooling", ANOTHER_WAY),
    Refusal(
        "keys and values kept outside of vLLM's own cache",
        _given("kv_transfer_config"),
        "leave out --kv-transfer-config and --kv-offloading-size",
    ),
    Refusal(
        "fast prefill with shared keys and values",
        _given("cache_config.kv_sharing_fast_prefill"),
        "leave out --kv-sharing-fast-prefill",
    ),
    Refusal(
        "weight transfer",
        _given("weight_transfer_config"),
        "leave out --weight-transfer-config, since any λ is served with the weights that are loaded",
    ),
)
"""Of a λ per request."""


def refuse(config: Any, way: str, refusals: Sequence[Refusal]) -> None:
    """Raises `MullError` with all that `config`, a `VllmConfig`, asks for and a `way`, in words, cannot give."""
    found = [refusal for refusal in refusals if refusal.asked(config)]
    if found:
        what = ", ".join(dict.fromkeys(refusal.what for refusal in found))
        raise MullError(f"{way} cannot have {what}", "; ".join(refusal.remedy for refusal in found))
