"""Training is a function of seed and steps, and a killed run ends as an unbroken one."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from mull.tiny import checkpoint_folder
from training import train
from training.corpus import Recipe
from training.train import Schedule

SCHEDULE = Schedule(steps=4, tokens=256, lr=1e-3, muon_lr=0.02, warmup=1)


@pytest.fixture(autouse=True)
def small_steps(monkeypatch):
    monkeypatch.setattr(train, "SAVE_EVERY", 2)
    monkeypatch.setattr(train, "POOL", 40)


@pytest.fixture
def unbroken(tmp_path_factory):
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("the base is trained by Muon, which torch has from 2.9 on")
    out = tmp_path_factory.mktemp("unbroken")
    train.train("base", out, Recipe(), SCHEDULE, seed=3)
    return out


def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(unbroken, tmp_path, monkeypatch):
    saved = []

    def save_and_die(*args):
        original(*args)
        saved.append(args)
        raise KeyboardInterrupt

    original = train._save
    monkeypatch.setattr(train, "_save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        train.train("base", tmp_path, Recipe(), SCHEDULE, seed=3)
    assert not (tmp_path / "base").exists()
    monkeypatch.setattr(train, "_save", original)
    train.train("base", tmp_path, Recipe(), SCHEDULE, seed=3)
    whole, resumed = (load_file(folder / "base" / "model.safetensors") for folder in (unbroken, tmp_path))
    assert len(saved) == 1
    assert all(whole[name].equal(resumed[name]) for name in whole)
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_fine_tuning_moves_the_layers_only(unbroken):
    train.train("instruct", unbroken, Recipe(), Schedule(steps=2, tokens=256, warmup=1), seed=3)
    base, tuned = (load_file(unbroken / kind / "model.safetensors") for kind in ("base", "instruct"))
    moved = {name for name in base if not base[name].equal(tuned[name])}
    assert moved
    assert all(name.startswith("model.layers.") for name in moved)


@pytest.mark.parametrize("kind", ["base", "instruct", "thinking"])
def test_shipped_checkpoints_load_with_transformers(kind):
    folder = checkpoint_folder(kind)
    model = AutoModelForCausalLM.from_pretrained(folder)
    stored = load_file(folder / "model.safetensors")
    assert stored.keys() == dict(model.named_parameters()).keys(), "tied weights are stored once"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.config.rope_parameters["rope_theta"] == 10000.0
    messages = [{"role": "user", "content": "hi"}]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert prompt.endswith("<|im_start|>assistant\n" + ("<think>\n" if kind == "thinking" else ""))
    assert tokenizer.decode(tokenizer.encode("</think>42<|im_end|>"), skip_special_tokens=True) == "</think>42"
    assert max(tokenizer.get_vocab().values()) < model.get_input_embeddings().weight.shape[0]


def test_the_shipped_pair_is_small():
    files = checkpoint_folder("base").parent.rglob("*.safetensors")
    assert sum(path.stat().st_size for path in files) < 15e6
