"""A λ per row against the mixture itself: each row's logits are those of a model whose weights are mixed in float64."""

from __future__ import annotations

import copy
import gc

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from mull.engines.weights.by_row import Mixed, RowLambdas, mix_by_row
from mull.engines.weights.combining import LiveParameter

COMMON = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
DEEPSEEK = {
    **EXPERTS, "n_routed_experts": 4, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1,
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8,
    "num_key_value_heads": 4,
}  # fmt: skip
FAMILIES: dict[str, dict] = {
    "llama": {},
    "qwen2": {},  # biases
    "qwen3": {},  # norms of queries and keys
    "mistral": {"sliding_window": 4},
    "gemma2": {"sliding_window": 4},  # gains of 1 + w, scaled embeddings
    "gemma3_text": {"sliding_window": 4},
    "olmo3": {"sliding_window": 4},  # norms behind the layers
    "exaone4": {"sliding_window": 4},
    "cohere2": {"sliding_window": 4},
    "lfm2": {"layer_types": ["conv", "full_attention"], "conv_bias": True},
    "qwen3_next": {
        **EXPERTS,
        "num_experts": 4,
        "shared_expert_intermediate_size": 16,
        "layer_types": ["linear_attention", "full_attention"],
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
    },
    "starcoder2": {},  # LayerNorm with a bias
    "phi3": {},  # fused queries, keys and values
    "seed_oss": {},
    "qwen3_moe": {**EXPERTS, "num_experts": 4},
    "qwen2_moe": {**EXPERTS, "num_experts": 4, "shared_expert_intermediate_size": 24},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "glm4_moe": {**EXPERTS, "n_routed_experts": 4, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1},
    "deepseek_v3": DEEPSEEK,
}
LAMS = torch.tensor([0.0, 0.3, 0.5, 0.77, 1.0])


def random_model(config, seed: int, dtype=torch.float32):
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(copy.deepcopy(config), attn_implementation="eager").eval()
    model.requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape))
    return model.to(dtype)


def mixture(instruct, thinking, lam: float, dtype=torch.float32):
    """A plain model with the weights of λ, mixed in float64."""
    model = copy.deepcopy(thinking).to(dtype)
    ends = zip(model.parameters(), instruct.parameters(), thinking.parameters(), strict=True)
    for live, a, b in ends:
        live.copy_((1 - lam) * a.double() + lam * b.double())
    return model


def by_row(instruct, thinking):
    """The thinking model with a λ per row, and what sets them."""
    model, parameters = loaded(instruct, thinking)
    return model, mix_by_row(model, parameters)


def loaded(instruct, thinking):
    """A live model and its parameters with copies of their ends."""
    model = copy.deepcopy(thinking)
    ends = dict(instruct.named_parameters())
    parameters = [
        LiveParameter(name, live.detach(), {"instruct": ends[name], "thinking": live.detach().clone()}, live.dtype)
        for name, live in model.named_parameters()
    ]
    return model, parameters


def ids() -> Tensor:
    return torch.randint(3, 96, (len(LAMS), 11), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_each_row_has_the_logits_of_its_mixture(family, tied):
    config = AutoConfig.for_model(family, **{**COMMON, **FAMILIES[family]}, tie_word_embeddings=tied)
    instruct, thinking = random_model(config, 1), random_model(config, 2)
    expected = torch.cat(
        [
            mixture(instruct, thinking, lam.item())(input_ids=row[None], use_cache=False).logits
            for lam, row in zip(LAMS, ids(), strict=True)
        ]
    )
    model, rows = by_row(instruct, thinking)
    rows.set(LAMS)
    found = model(input_ids=ids(), use_cache=False).logits
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    rows.set(LAMS.flip(0))
    other = model(input_ids=ids(), use_cache=False).logits
    assert (other - expected).abs().max() > 0.01 * expected.abs().max(), "λ does not matter"


@torch.inference_mode()
def test_a_forward_pass_holds_no_more_than_the_ends():
    config = AutoConfig.for_model("qwen3", **COMMON)
    instruct, thinking = random_model(config, 1), random_model(config, 2)
    model, rows = by_row(instruct, thinking)
    assert not list(model.parameters())
    held = {id(m): m for module in model.modules() for m in vars(module).values() if isinstance(m, Mixed)}
    size = sum(parameter.numel() for parameter in thinking.parameters())
    vectors = len(rows._instruct) + len(rows._change)
    assert sum(mixed.ends.numel() for mixed in held.values()) + vectors == 2 * size


@torch.inference_mode()
def test_after_loading_the_ends_are_held_once():
    """Every storage that is left: those of the ends side by side, and less than a tenth of it for all else."""
    config = AutoConfig.for_model("qwen3", **{**COMMON, "hidden_size": 128, "intermediate_size": 256})
    gc.collect()
    before = {id(each) for each in gc.get_objects() if issubclass(type(each), Tensor)}
    instruct, thinking = random_model(config, 1), random_model(config, 2)
    size = sum(parameter.nbytes for parameter in thinking.parameters())
    model, parameters = loaded(instruct, thinking)
    rows = mix_by_row(model, parameters)
    del instruct, thinking
    rows.set(LAMS)
    model(input_ids=ids(), use_cache=False)
    gc.collect()
    left = [each for each in gc.get_objects() if issubclass(type(each), Tensor) and id(each) not in before]
    storages = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in left}
    for module in model.modules():  # tensors of which nothing but other objects' fields know are not listed
        for weight in vars(module).values():
            if isinstance(weight, Mixed):
                storage = weight.ends.untyped_storage()
                storages[storage.data_ptr()] = storage.nbytes()
    assert 2 * size <= sum(storages.values()) < 2.2 * size, len(parameters)


@pytest.mark.parametrize("bias", [False, True])
@torch.inference_mode()
def test_layers_that_share_an_input_share_one_product_and_others_do_not(bias, monkeypatch):
    """Here keys are made of another input: names alone do not make one product."""

    class Layer(torch.nn.Module):
        config = type("", (), {})()
        device = torch.device("cpu")

        def __init__(self):
            super().__init__()
            for name, size in (("q_proj", 6), ("k_proj", 4), ("v_proj", 4), ("gate_proj", 5), ("up_proj", 5)):
                setattr(self, name, torch.nn.Linear(8, size, bias=bias))

        def forward(self, x, other):
            parts = [self.q_proj(x), self.k_proj(other), self.v_proj(x), self.gate_proj(x), self.up_proj(x)]
            return torch.cat([*parts, self.k_proj(x)], -1)

    torch.manual_seed(0)
    instruct, thinking = Layer().requires_grad_(False), Layer().requires_grad_(False)
    x, other = torch.randn(2, len(LAMS), 3, 8)
    expected = torch.cat(
        [mixture(instruct, thinking, lam.item())(a[None], b[None]) for lam, a, b in zip(LAMS, x, other, strict=True)]
    )
    model, rows = by_row(instruct, thinking)
    rows.set(LAMS)
    assert torch.allclose(model(x, other), expected, atol=1e-5)
    products = []
    linear = torch.nn.functional.linear
    monkeypatch.setattr(torch.nn.functional, "linear", lambda *args: (products.append(args), linear(*args))[1])
    for layer in (model.gate_proj, model.up_proj, model.q_proj, model.k_proj, model.v_proj):
        layer(x)
    assert [len(weight) for _, weight in products] == [5 + 5, 6 + 4 + 4]


@torch.inference_mode()
def test_in_16_bits_it_lies_as_near_to_float64_as_a_merged_model():
    config = AutoConfig.for_model("qwen3", **{**COMMON, "hidden_size": 128, "intermediate_size": 256})
    instruct, thinking = random_model(config, 1), random_model(config, 2)
    halves = [model.to(torch.bfloat16) for model in (instruct, thinking)]
    exact = torch.cat(
        [
            mixture(*halves, lam.item(), torch.float64)(input_ids=row[None], use_cache=False).logits
            for lam, row in zip(LAMS, ids(), strict=True)
        ]
    )
    merged = torch.cat(
        [
            mixture(*halves, lam.item(), torch.bfloat16)(input_ids=row[None], use_cache=False).logits
            for lam, row in zip(LAMS, ids(), strict=True)
        ]
    )
    model, rows = by_row(*halves)
    rows.set(LAMS)
    found = model(input_ids=ids(), use_cache=False).logits
    ours, theirs = ((each.double() - exact).pow(2).mean().sqrt() for each in (found, merged))
    assert ours < 1.3 * theirs, (ours, theirs)


def test_what_is_not_linear_in_a_weight_is_refused():
    config = AutoConfig.for_model("apertus", **COMMON)
    instruct, thinking = random_model(config, 1), random_model(config, 2)
    model, rows = by_row(instruct, thinking)
    rows.set(LAMS)
    with pytest.raises(NotImplementedError, match="softplus of a weight with a λ per row"):
        model(input_ids=ids(), use_cache=False)


def test_rows_must_divide_the_input():
    rows = RowLambdas()
    rows.set(LAMS)
    with pytest.raises(NotImplementedError, match="an input of 7 rows in a batch of 5"):
        rows.column(torch.zeros(7, 2))
