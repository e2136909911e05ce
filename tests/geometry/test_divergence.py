"""KL of an adapter's logits against a computation by transformers and numpy alone."""

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.special import log_softmax
from transformers import AutoModelForCausalLM, AutoTokenizer

from mull.checkpoints.pair import Pair
from mull.errors import MullError
from mull.geometry.divergence import divergences, passes
from mull.merging.adapter.lowrank import plan_low_rank
from mull.merging.adapter.writing import WEIGHTS, extract
from mull.tiny import checkpoint_folder

INSTRUCT, THINKING = checkpoint_folder("instruct"), checkpoint_folder("thinking")
TEXTS = ["Take 04 and do +6 -5. Give the last two digits.", "Start at 83, then +9 *5 -5. Keep the last two digits."]
PROMPTS = [[{"role": "user", "content": text}] for text in TEXTS]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    pair = Pair.open(str(INSTRUCT), str(THINKING), donor="instruct")
    pair.check()
    out = tmp_path_factory.mktemp("adapters") / "rank8"
    extract(plan_low_rank(pair, 8), out, save_rest=True)
    return out


def weights(folder):
    return {name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()}


@torch.no_grad()
def log_probabilities(parameters):
    """`[prompts, V]` float64 at the end of each prompt, under the Thinking side's template."""
    model = AutoModelForCausalLM.from_pretrained(INSTRUCT, dtype=torch.float32).eval()
    model.load_state_dict(parameters, strict=False)
    tokenizer = AutoTokenizer.from_pretrained(THINKING)
    rows = []
    for prompt in PROMPTS:
        ids = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_tensors="pt", return_dict=False)
        rows.append(model(input_ids=ids).logits[0, -1].double().numpy())
    return log_softmax(np.stack(rows), axis=-1)


def kl(p, q):
    each = (np.exp(p) * (p - q)).sum(-1)
    return each.mean(), each.std(ddof=1) / len(each) ** 0.5


def adapted(adapter, scale):
    parameters = weights(INSTRUCT)
    stored = {name.removeprefix("base_model.model."): t.float() for name, t in load_file(adapter / WEIGHTS).items()}
    for name, tensor in stored.items():
        if "lora_A" in name:
            parameters[name.replace("lora_A.", "")] += scale * stored[name.replace("lora_A", "lora_B")] @ tensor
        elif "lora_" not in name:
            parameters[name] = tensor
    return parameters


def test_against_transformers_and_numpy(adapter):
    told = []
    found = divergences(INSTRUCT, THINKING, adapter, PROMPTS, [0.5, 1.0], progress=told.append)
    assert sum(told) == passes(len(PROMPTS), 2)
    instruct, thinking = weights(INSTRUCT), weights(THINKING)
    for row in found:
        mixed = {
            name: (instruct[name] + row.lam * (thinking[name] - instruct[name])).bfloat16().float() for name in instruct
        }
        wanted = log_probabilities(mixed)
        assert row.instruct == pytest.approx(kl(wanted, log_probabilities(instruct)), rel=1e-2, abs=1e-7)
        assert row.adapter == pytest.approx(
            kl(wanted, log_probabilities(adapted(adapter, row.lam))), rel=1e-2, abs=1e-7
        )
    assert found[1].adapter.mean < found[1].instruct.mean


def test_more_positions_follow_thinking_s_answer_and_one_prompt_has_no_error(adapter):
    (one,) = divergences(INSTRUCT, THINKING, adapter, PROMPTS[:1])
    (many,) = divergences(INSTRUCT, THINKING, adapter, PROMPTS[:1], positions=12)
    assert one.adapter.error != one.adapter.error
    assert many.instruct.mean != one.instruct.mean


@pytest.mark.parametrize("kind", ["qwen3", "llama", "qwen3_moe"])
def test_full_rank_and_the_rest_is_thinking(tmp_path, pairs, kind):
    instruct, thinking = pairs(kind)[0], tmp_path / "thinking"
    shutil.copytree(pairs(kind)[1], thinking)
    tensors, others = (load_file(folder / "model.safetensors") for folder in (thinking, instruct))
    # A router gets no factors, and experts limit the rank: there the rest is left as it is.
    tensors |= {name: tensor for name, tensor in others.items() if kind == "qwen3_moe" and ".experts." not in name}
    save_file(tensors, thinking / "model.safetensors", {"format": "pt"})
    pair = Pair.open(str(instruct), str(thinking), donor="instruct")
    pair.check()
    rank = 24 if kind == "qwen3_moe" else 64
    extract(plan_low_rank(pair, rank, dtype="float32"), tmp_path / "out", save_rest=True)
    (found,) = divergences(instruct, thinking, tmp_path / "out", [[{"role": "user", "content": "w7 w9"}]])
    assert found.adapter.mean < 1e-3 * found.instruct.mean


def test_an_adapter_of_another_model_is_refused(adapter, tmp_path):
    tensors = load_file(adapter / WEIGHTS)
    save_file({name.replace("layers.5", "layers.9"): tensor for name, tensor in tensors.items()}, tmp_path / WEIGHTS)
    with pytest.raises(MullError, match=r"has no weight model\.layers\.9"):
        divergences(INSTRUCT, THINKING, tmp_path, PROMPTS)


def test_a_prompt_beyond_the_context_is_refused(adapter):
    with pytest.raises(MullError, match="the context leaves 1023"):
        divergences(INSTRUCT, THINKING, adapter, [[{"role": "user", "content": "7 " * 1100}]])
