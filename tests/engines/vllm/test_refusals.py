"""What the ways in vLLM do not go together with, read off a configuration."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mull.engines.vllm import refusals
from mull.errors import MullError
from mull.tiny import checkpoint_folder

ASKED = [
    ("speculative_config", object(), "speculative decoding"),
    ("lora_config", object(), "LoRA"),
    ("parallel_config.use_ubatching", True, "dual batch overlap"),
    ("parallel_config.enable_expert_parallel", True, "expert parallelism"),
    ("parallel_config.use_sequence_parallel_moe", True, "sequence parallelism"),
    ("parallel_config.prefill_context_parallel_size", 2, "context parallelism"),
    ("parallel_config.decode_context_parallel_size", 2, "context parallelism"),
    ("model_config.is_multimodal_model", True, "images"),
    ("model_config.enable_prompt_embeds", True, "embeddings"),
    ("model_config.runner_type", "pooling", "pooling"),
    ("kv_transfer_config", object(), "keys and values"),
    ("cache_config.kv_sharing_fast_prefill", True, "fast prefill"),
    ("offload_config.uva.cpu_offload_gb", 2.0, "offloaded"),
    ("offload_config.prefetch.offload_group_size", 4, "offloaded"),
    ("weight_transfer_config", object(), "weight transfer"),
]
IN_PLACE = ("speculative decoding", "LoRA", "offloaded")


def config(path: str = "", value: Any = None) -> SimpleNamespace:
    """A configuration that has only `path`, such as `parallel_config.enable_dbo`."""
    made = SimpleNamespace()
    part = made
    *parents, last = path.split(".")
    for name in parents:
        setattr(part, name, SimpleNamespace())
        part = getattr(part, name)
    if last:
        setattr(part, last, value)
    return made


def refuse(config: Any) -> None:
    refusals.refuse(config, "a λ per request", refusals.PER_REQUEST)


def test_nothing_special_is_fine(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("VLLM_USE_RUST_FRONTEND", raising=False)
    refuse(config())
    refuse(config("parallel_config.decode_context_parallel_size", 1))
    refuse(config("compilation_config.pass_config.enable_sp", None))


@pytest.mark.parametrize(("path", "value", "said"), ASKED)
def test_each_is_refused_by_name_with_a_remedy(path: str, value: Any, said: str):
    with pytest.raises(MullError, match=f"a λ per request cannot have .*{said}") as refused:
        refuse(config(path, value))
    assert refused.value.remedy


@pytest.mark.parametrize("variable", ["VLLM_USE_RUST_FRONTEND", "VLLM_BATCH_INVARIANT"])
def test_environment_variables_are_refused_too(monkeypatch: pytest.MonkeyPatch, variable: str):
    monkeypatch.setenv(variable, "0")
    refuse(config())
    monkeypatch.setenv(variable, "1")
    with pytest.raises(MullError, match=f"(?i)unset {variable}"):
        refuse(config())


def test_what_only_other_versions_have_is_refused_too():
    with pytest.raises(MullError, match="sequence parallelism"):
        refuse(config("compilation_config.pass_config.enable_sp", True))


def test_everything_that_is_wrong_is_said_at_once():
    both = config("lora_config", object())
    both.speculative_config = object()
    with pytest.raises(MullError, match="speculative decoding, LoRA"):
        refuse(both)


@pytest.mark.vllm
def test_vllm_calls_them_so():
    """A part of the configuration by another name would never be refused."""
    from vllm.config import ModelConfig, VllmConfig

    whole = VllmConfig()
    whole.model_config = ModelConfig(model=str(checkpoint_folder("thinking")))
    for path, *_ in ASKED:
        part: Any = whole
        for name in path.split("."):
            assert hasattr(part, name), path
            part = getattr(part, name)


@pytest.mark.parametrize(("path", "value", "said"), [each for each in ASKED if each[2] in IN_PLACE])
def test_weights_in_place_refuse_what_moves_or_wraps_them(path: str, value: Any, said: str):
    with pytest.raises(MullError, match=f"weights set in place cannot have .*{said}") as refused:
        refusals.refuse(config(path, value), "weights set in place", refusals.IN_PLACE)
    assert refused.value.remedy


def test_weights_in_place_allow_the_rest():
    for path, value, said in ASKED:
        if said not in IN_PLACE:
            refusals.refuse(config(path, value), "weights set in place", refusals.IN_PLACE)
