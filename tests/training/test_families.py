"""The sisters: each family trains by the same code into a pair that mull checks, mixes and decodes."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from mull.checkpoints.pair import Pair
from mull.engines.base import Request, Sampling
from mull.engines.local.engine import LocalEngine
from mull.merging.coefficients import Coefficients
from training import train
from training.corpus import KINDS, Recipe
from training.families import FAMILIES
from training.train import Schedule

SCHEDULES = {
    "base": Schedule(steps=6, tokens=512, lr=3e-3, muon_lr=0.02, warmup=1),
    "instruct": Schedule(steps=3, tokens=512, lr=5e-3, warmup=1),
    "thinking": Schedule(steps=3, tokens=512, lr=5e-3, warmup=1),
}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_becomes_a_pair(family, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "POOL", 60)
    for kind in KINDS:
        train.train(kind, tmp_path, Recipe(), SCHEDULES[kind], seed=0, family=family)
    pair = Pair.open(str(tmp_path / "instruct"), str(tmp_path / "thinking"))
    pair.check()
    moved = {t.name for t in pair.tensors if t.name.startswith("model.layers.")}
    ends = [load_file(tmp_path / kind / "model.safetensors") for kind in ("instruct", "thinking")]
    assert all(ends[0][name].equal(ends[1][name]) for name in ends[0] if name not in moved)

    engine = LocalEngine(tmp_path / "instruct", tmp_path / "thinking", processes=1)
    engine.set_weights(Coefficients.scalar(1.0))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "thinking", dtype=torch.float32)
    text = AutoTokenizer.from_pretrained(tmp_path / "thinking")
    prompt = text("<|im_start|>user\nAdd up 3 0 0 4 0.<|im_end|>\n<|im_start|>assistant\n<think>\n")["input_ids"]
    request = Request(id="0", prompt_ids=tuple(prompt), seed=0, sampling=Sampling(temperature=0, max_tokens=200))
    (found,) = engine.generate([request])
    wanted = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=200)[0, len(prompt) :]
    assert list(found.token_ids) == wanted.tolist()
