"""Real vLLM without mull's loader: a batch of adapters at several levels gives what Instruct + λ·B·A gives.

The sums are computed in float64 and read by transformers, which says what it would have chosen at every place.
"""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.engines.vllm.per_request.conftest import ENVIRONMENT, tokens_and_logprobs
from tests.engines.vllm.per_request.pairs import FloatPair, float_pair, reference
from tests.running import mull

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1800)]
LEVELS = (0.3, 0.75, 1.0)


def adapter_of(pair: FloatPair, *options: str) -> Path:
    out = pair.instruct.parent / "adapter"
    ends = ("--instruct", pair.instruct, "--thinking", pair.thinking)
    done = mull(
        "extract-delta", *ends, "--rank", 24, "--dtype", "float32", "--levels", "0.3,0.75,1", *options, "-o", out
    )
    assert done.returncode == 0, done.stderr
    return out


def total(pair: FloatPair, adapter: Path, lam: float) -> Path:
    """A checkpoint of Instruct + λ·B·A."""
    out = adapter.parent / f"total-{lam}"
    shutil.copytree(pair.instruct, out)
    tensors, stored = load_file(out / "model.safetensors"), load_file(adapter / "adapter_model.safetensors")
    for name, a in stored.items():
        if ".lora_A." in name:
            product = stored[name.replace(".lora_A.", ".lora_B.")].double() @ a.double()
            weight = name.removeprefix("base_model.model.").replace(".lora_A.", ".")
            tensors[weight] = (tensors[weight].double() + lam * product).float()
    save_file(tensors, out / "model.safetensors", {"format": "pt"})
    return out


@pytest.mark.parametrize(
    ("kind", "options"),
    [("qwen3", ()), ("llama", ()), ("qwen2", ("--modules", "attention,ffn"))],
    ids=["tied", "head with factors", "head that vLLM refuses"],
)
def test_a_batch_of_several_levels(tmp_path: Path, kind: str, options: tuple[str, ...]):
    os.environ.update(ENVIRONMENT | os.environ)
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest

    pair = float_pair(tmp_path, kind)
    adapter = adapter_of(pair, *options)
    llm = LLM(
        model=str(pair.instruct), skip_tokenizer_init=True, dtype="float32", enforce_eager=True, max_model_len=128,
        max_num_seqs=8, max_num_batched_tokens=48, enable_lora=True, max_lora_rank=32, max_loras=len(LEVELS) + 1,
    )  # fmt: skip
    try:
        lots = random.Random(0)
        requests = [
            ([lots.randrange(6, 150) for _ in range(lots.choice((3, 9, 30, 60)))], (0.0, *LEVELS)[i % 4])
            for i in range(16)
        ]
        adapters = {
            lam: LoRARequest(f"mull@{lam:g}", number, str(adapter / f"mull@{lam:g}"))
            for number, lam in enumerate(LEVELS, start=1)
        }
        outputs = llm.generate(
            [{"prompt_token_ids": ids} for ids, _ in requests],
            SamplingParams(temperature=0.0, max_tokens=16, ignore_eos=True, logprobs=0, detokenize=False),
            lora_request=[adapters.get(lam) for _, lam in requests],
            use_tqdm=False,
        )
    finally:
        llm.llm_engine.engine_core.shutdown()
    totals = {lam: total(pair, adapter, lam) for lam in LEVELS} | {0.0: pair.instruct}
    largest = 0.0
    for (prompt, lam), output in zip(requests, outputs, strict=True):
        tokens, logprobs = tokens_and_logprobs(output)
        best, expected = reference(totals[lam], prompt, tokens)
        assert tokens == best, lam
        largest = max(largest, *(abs(a - b) for a, b in zip(logprobs, expected, strict=True)))
        others = [reference(totals[other], prompt, tokens)[1] for other in totals if other != lam]
        assert all(max(abs(a - b) for a, b in zip(logprobs, each, strict=True)) > 0.01 for each in others)
    assert largest <= 1e-4
