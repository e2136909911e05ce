"""Every family that the check lets through, against transformers' `generate`: 100 tokens, far beyond two windows."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoConfig, PreTrainedModel

from mull.engines.base import Request, Sampling
from mull.engines.local.decoding.attention import ATTENTION
from mull.engines.local.decoding.cache import RowCache
from mull.engines.local.decoding.layout import WIDTH_STEP, Layout
from mull.engines.local.decoding.loop import RowLoop
from mull.engines.local.decoding.rows import Finished, Lookahead
from mull.engines.local.engine import LocalEngine
from mull.engines.local.support import check_supported
from mull.errors import MullError

from ...conftest import COMMON, LLAMA3_ROPE, VOCABULARY, random_model, save_model
from ...weights.test_by_row import by_row, mixture

TOKENS = 100
LENGTHS = (1, 3, 8, 12, 20, 33, 50, 75, 90)
"""Of prompts: within and beyond a window of 8, one of 16 and what their layers keep."""
MIXED = {"layer_types": ["sliding_attention", "full_attention"]}
LINEAR = {"layer_types": ["linear_attention", "full_attention"], "head_dim": 16}
DELTA = {
    "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
}  # fmt: skip
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_expand": 2}
LATENT = {
    "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
    "v_head_dim": 12, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1,
    "moe_intermediate_size": 16, "first_k_dense_replace": 1,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"rope_parameters": LLAMA3_ROPE},
    "qwen3": {"head_dim": 16},
    "qwen3_moe": EXPERTS | {"head_dim": 16},
    "mistral": {"sliding_window": 8},
    "mistral-16": {"sliding_window": 16},
    "mistral-70": {"sliding_window": 70},  # keeps 128 positions
    "qwen2": {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
    "gemma2": {"sliding_window": 8, "head_dim": 16},
    "gemma3_text": MIXED | {"sliding_window": 16, "head_dim": 16},
    "olmo3": MIXED | {"sliding_window": 8},
    "exaone4": MIXED | {"sliding_window": 8},
    "cohere2": MIXED | {"sliding_window": 8, "head_dim": 8},
    "deepseek_v3": LATENT,
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "qwen3_next": LINEAR | DELTA | EXPERTS | {"shared_expert_intermediate_size": 16},
    "qwen3_5_text": LINEAR | DELTA,
    "olmo_hybrid": {"layer_types": ["linear_attention", "full_attention"]},
    "kimi_linear": LINEAR | EXPERTS | LATENT | {"n_group": 1, "linear_num_heads": 4, "linear_head_dim": 8},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 8, "num_experts": 2},
    "bamba": MAMBA | {"attn_layer_indices": [1], "mamba_n_groups": 1},
    "granitemoehybrid": MAMBA | {"layer_types": ["linear_attention", "full_attention"], "num_local_experts": 2},
    "falcon_h1": MAMBA | {"mamba_d_ssm": 64},
}


RECURRENT = {
    "lfm2", "qwen3_next", "qwen3_5_text", "olmo_hybrid", "kimi_linear", "jamba", "bamba", "granitemoehybrid",
    "falcon_h1",
}  # fmt: skip
RELEASE = tuple(map(int, transformers.__version__.split(".")[:2]))


def family_model(name: str, seed: int = 0) -> PreTrainedModel:
    if name in RECURRENT and RELEASE < (5, 21):
        pytest.skip("refused with this transformers, whose caches of states are others")
    family, layers = name.split("-")[0], {"num_hidden_layers": 2, "tie_word_embeddings": False}
    return random_model(
        AutoConfig.for_model(family, **COMMON | layers | FAMILIES[name]), seed=seed, attention=ATTENTION
    )


def prompts(lengths: tuple[int, ...] = LENGTHS) -> list[tuple[int, ...]]:
    rng = random.Random(1)
    return [tuple(rng.randrange(6, VOCABULARY) for _ in range(length)) for length in lengths]


def decoded(
    model: PreTrainedModel,
    layout: Layout,
    requests: list[Request],
    batch: int,
    free: int = 1 << 40,
    set_lams: Callable[[torch.Tensor], None] | None = None,
) -> tuple[dict[str, Finished], RowCache]:
    loop = RowLoop(
        model,
        batch=batch,
        context=256,
        stop_ids=(),
        device=layout.device,
        dtype=torch.float32,
        layout=layout,
        free=free,
        row_step=8,
        set_lams=set_lams,
    )
    rows = {row.request.id: row for done in loop.steps(Lookahead(requests)) for row in done}
    return rows, loop._batch.cache


def greedy(wanted: list[tuple[int, ...]]) -> list[Request]:
    sampling = Sampling(temperature=0, max_tokens=TOKENS)
    return [Request(id=str(i), prompt_ids=prompt, seed=0, sampling=sampling) for i, prompt in enumerate(wanted)]


def generated(model: PreTrainedModel, wanted: list[tuple[int, ...]]) -> list[list[int]]:
    """By transformers' own caches and attention, with padding before the prompts."""
    longest = max(map(len, wanted))
    ids, mask = torch.zeros(2, len(wanted), longest, dtype=torch.int64)
    for row, prompt in enumerate(wanted):
        ids[row, longest - len(prompt) :], mask[row, longest - len(prompt) :] = torch.tensor(prompt), 1
    model.config._attn_implementation = "eager"
    model.generation_config.eos_token_id = None
    found = model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=TOKENS)
    model.config._attn_implementation = ATTENTION
    return found[:, longest:].tolist()


@pytest.mark.parametrize("name", FAMILIES)
def test_decodes_as_generate_does(name: str) -> None:
    model = family_model(name)
    layout = check_supported(model)
    expected = generated(model, prompts())
    assert len({tuple(text[-20:]) for text in expected}) > 4, "texts that differ, to their ends"
    for batch, wanted in ((9, prompts()), (1, prompts()[1::6])):
        found, cache = decoded(model, layout, greedy(wanted), batch)
        assert [found[str(i)].tokens.tolist() for i in range(len(wanted))] == (
            expected if batch == 9 else expected[1::6]
        )
    for layer, tensors in cache.states.items():
        window = layout.windows.get(layer)
        if "keys" in tensors:
            assert tensors["keys"].shape[2] == (
                cache.width if window is None else -(-window // WIDTH_STEP) * WIDTH_STEP
            )


@pytest.mark.parametrize(
    "name", ["qwen3", "mistral", "mistral-70", "gemma2", "olmo3", "lfm2", "qwen3_5_text", "falcon_h1"]
)
def test_a_row_has_the_same_bits_alone_and_in_any_batch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that share prompts with others far ahead of them, move, are sent back for lack of memory and begin again."""
    monkeypatch.setattr("mull.engines.local.decoding.admission.GROWTH", 64)
    model = family_model(name)
    layout = check_supported(model)
    rng = random.Random(0)
    requests = [
        Request(
            id=str(i),
            prompt_ids=prompt,
            seed=i,
            sampling=Sampling(temperature=1, top_k=0, max_tokens=rng.randint(1, 150)),
        )
        for i, prompt in enumerate(prompts((1, 5, 40, 75, 90)) * 6)
    ]
    expected, _ = decoded(model, layout, requests, batch=32)
    alone = {key: row for request in requests[::5] for key, row in decoded(model, layout, [request], 1)[0].items()}
    small = 2 * 16 * layout.row_bytes(128)
    for found in (alone, decoded(model, layout, requests, 8)[0], decoded(model, layout, requests, 32, small)[0]):
        for key, row in found.items():
            assert row.tokens.tolist() == expected[key].tokens.tolist()
            assert row.logprobs.tolist() == expected[key].logprobs.tolist()


@pytest.mark.parametrize("name", ["mistral", "gemma3_text", "lfm2"])
def test_memory_is_counted_as_the_cache_takes_it(name: str) -> None:
    model = family_model(name)
    layout = check_supported(model)
    cache = RowCache(layout)
    for width in (64, 128, 1024):
        cache.resize(8, width)
        layers = [sum(tensor.nbytes for tensor in tensors.values()) for tensors in cache.states.values()]
        assert 8 * layout.row_bytes(width) == sum(layers) + max(layers)
    row = layout.row_bytes(1024)
    if name == "mistral":
        assert row == layout.row_bytes(64), "every layer keeps 64 positions"
    else:
        assert layout.width_within(row) == 1024 and layout.width_within(row - 1) == 1023
        assert layout.width_within(1) == 0


@pytest.mark.parametrize(
    "name",
    ["mistral", "qwen2", "gemma2", "gemma3_text", "olmo3", "exaone4", "cohere2", "deepseek_v3", "lfm2", "qwen3_next"],
)
@torch.inference_mode()
def test_rows_with_a_lambda_each_decode_as_their_mixtures(name: str) -> None:
    instruct, thinking = family_model(name), family_model(name, seed=1)
    model, rows = by_row(instruct, thinking)
    layout = check_supported(model, rows.set)
    wanted, lams = prompts((1, 20, 75)), (0.0, 0.3, 1.0)
    requests = [
        Request(id=f"{lam} {i}", prompt_ids=prompt, seed=0, sampling=request.sampling, lam=lam)
        for lam in lams
        for i, (prompt, request) in enumerate(zip(wanted, greedy(wanted), strict=True))
    ]
    found, _ = decoded(model, layout, requests, batch=9, set_lams=rows.set)
    for lam in lams:
        expected = generated(mixture(instruct, thinking, lam), wanted)
        assert [found[f"{lam} {i}"].tokens.tolist() for i in range(len(wanted))] == expected


def test_a_lambda_per_row_is_refused_where_a_layer_cannot_have_it(tmp_path: Path) -> None:
    config = AutoConfig.for_model("apertus", **COMMON)
    folders = [save_model(tmp_path / side, config, seed=seed) for seed, side in enumerate(("i", "t"))]
    LocalEngine(*folders)
    with pytest.raises(MullError, match=r"no λ per row for model type 'apertus' \(softplus of a weight"):
        LocalEngine(*folders, by_row=True)
