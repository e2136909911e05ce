"""`mull merge` with other methods, more models, several λ, rules; `mull methods`."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mull.tiny import checkpoint_folder

from ...running import mull, process

INSTRUCT, THINKING, BASE = (str(checkpoint_folder(kind)) for kind in ("instruct", "thinking", "base"))
PAIR = ("--instruct", INSTRUCT, "--thinking", THINKING)


def weights(folder):
    return load_file(Path(folder) / "model.safetensors")


def test_several_lambdas_make_several_folders_equal_to_single_merges(tmp_path):
    done = mull("merge", *PAIR, "--lambda", "0.4,1", "-o", tmp_path / "mixed")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mixed-0.4", "mixed-1"]
    for lam in ("0.4", "1"):
        assert mull("merge", *PAIR, "--lambda", lam, "-o", tmp_path / "single" / f"mixed-{lam}").returncode == 0
        for path in (tmp_path / f"mixed-{lam}").iterdir():
            assert path.read_bytes() == (tmp_path / "single" / f"mixed-{lam}" / path.name).read_bytes(), path.name


def test_the_place_of_lambda_in_the_name(tmp_path):
    assert mull("merge", *PAIR, "--lambda", "0.25", "-o", tmp_path / "a-{lambda}-b").returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a-0.25-b"]


def test_a_hub_that_cannot_be_reached_leaves_complete_folders_and_is_told_of_all_of_them(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", "hf_none")
    done = process("merge", *PAIR, "--lambda", "0,1", "-o", tmp_path / "mixed", "--push", "me/mixed")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"{tmp_path}/mixed-0 is complete, but the hub did not take it as me/mixed-0" in done.stderr
    assert f"not tried: {tmp_path}/mixed-1 as me/mixed-1" in done.stderr
    assert weights(tmp_path / "mixed-1")


def test_an_explanation_calls_the_coefficient_by_its_name(tmp_path):
    for options, symbol in ((["--method", "ta", "--base", BASE], "α"), (["--lambda", "0.5"], "λ")):
        done = mull("merge", *PAIR, *options, "--explain", "-o", tmp_path / "out")
        assert done.returncode == 0, done.stderr
        (head,) = (line for line in done.stdout.splitlines() if "decided by" in line)
        assert head.split()[0] == symbol


def test_a_preset_says_how_it_reads_the_paper(tmp_path):
    done = mull("merge", *PAIR, "--base", BASE, "--preset", "mi-paper:ties-base", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "sparsity 0.2" in done.stderr and "density=0.8" in done.stderr
    manifest = json.loads((tmp_path / "out" / "mull.json").read_text())
    assert manifest["method"] == "ties" and manifest["parameters"]["density"] == 0.2
    assert manifest["coefficients"]["default"] == 0.5
    assert manifest["base"]["name"] == "base"
    assert "arXiv 2306.01708" in (tmp_path / "out" / "README.md").read_text()


def test_a_presets_parameter_can_be_overruled(tmp_path):
    preset = ("--preset", "mi-paper:ties-base", "--param", "density=0.8")
    done = mull("merge", *PAIR, "--base", BASE, *preset, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "mull.json").read_text())["parameters"]["density"] == 0.8


def test_three_models_by_weight(tmp_path):
    models = [f"{name}={weight}" for name, weight in ((INSTRUCT, 0.5), (THINKING, 0.25), (BASE, 0.25))]
    done = mull("merge", *(part for model in models for part in ("--model", model)), "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    sides = [weights(name) for name in (INSTRUCT, THINKING, BASE)]
    for name, tensor in weights(tmp_path / "out").items():
        wanted = sum(w * side[name].double() for w, side in zip((0.5, 0.25, 0.25), sides, strict=True))
        assert torch.equal(tensor, wanted.float().bfloat16()), name


def test_alpha_in_some_layers_leaves_the_base_elsewhere(tmp_path):
    done = mull("merge", *PAIR, "--base", BASE, "--method", "ta", "--layers", "0-1", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    merged, base = weights(tmp_path / "out"), weights(BASE)
    for name, tensor in merged.items():
        inside = name.startswith(("model.layers.0.", "model.layers.1."))
        if not inside:
            assert torch.equal(tensor, base[name]), name
        elif "norm" not in name:  # a norm's α·Σδ may round away
            assert not torch.equal(tensor, base[name]), name


def test_rules_and_their_explanation(tmp_path):
    rules = ("--set", "layers:0-5=0.2->0.7", "--set", "attention=0.9")
    done = mull("merge", *PAIR, "--lambda", "0.5", *rules, "--explain", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "layers:0-5=0.2->0.7" in done.stdout
    assert not (tmp_path / "out").exists()
    (tmp_path / "rules.toml").write_text('default = 0.5\n[[rule]]\nmodules = ["ffn"]\nlambda = 0.25\n')
    done = mull("merge", *PAIR, "--coefficients", tmp_path / "rules.toml", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    sides, merged = [weights(name) for name in (INSTRUCT, THINKING)], weights(tmp_path / "out")
    for name, lam in (("model.layers.0.mlp.up_proj.weight", 0.25), ("model.layers.0.self_attn.q_proj.weight", 0.5)):
        wanted = (1 - lam) * sides[0][name].double() + lam * sides[1][name].double()
        assert torch.equal(merged[name], wanted.bfloat16())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lambda", "0.5", "--method", "tais"], "unknown method 'tais'"),
        (["--method", "ties"], "the method ties needs a base"),
        (["--lambda", "0.5", "--base", BASE], "the method mi has no use for a base"),
        (["--lambda", "0.5", "--method", "ties", "--base", BASE], "the method ties takes no --lambda"),
        (["--lambda", "0.5", "--alpha", "1"], "the method mi takes no --alpha"),
        (["--method", "ties", "--base", BASE, "--param", "density=2"], "density must lie in (0, 1], got 2"),
        (["--method", "ties", "--base", BASE, "--param", "density=much"], "density cannot be 'much'"),
        (["--method", "ties", "--base", BASE, "--param", "dencity=1"], "has no parameter 'dencity'"),
        (["--method", "ties", "--base", BASE, "--param", "density"], "cannot read the parameter 'density'"),
        (["--method", "ties", "--base", BASE, "--param", "trim=row"], "trim cannot be 'row'"),
        (["--method", "ta", "--base", BASE, "--param", "weights=1,2,3"], "3 weights for 2 models"),
        (["--method", "model_stock", "--base", BASE, "--set", "ffn=1"], "has no coefficient to vary"),
        (["--preset", "mi-paper:tise"], "unknown preset 'mi-paper:tise'"),
        (["--lambda", "0.5", "--donor", "base"], "there is no donor 'base'"),
        (["--lambda", "0.5", "--model", BASE], "--model stands in place of"),
        (["--lambda", "0.5", "--set", "fnn=0.3"], "fnn"),
        (["--lambda", "0.5", "--push", "no name"], "cannot be a name on the hub"),
        (["--lambda", "0.5", "--push", ""], "on the hub"),
        (["--lambda", "0.5", "--private"], "--private belongs to --push"),
        (["--method", "ta", "--base", BASE, "--alpha", "nan"], "a coefficient (λ, α) must be a finite number"),
        (["--method", "ties", "--base", BASE, "--param", "density=.2", "--param", "density=.3"], "given twice"),
        (["--method", "ties", "--base", BASE, "--param", "weights=1e308,1e308"], "cannot be used"),
        (["--method", "della", "--base", BASE, "--param", "epsilon=nan"], "leaves (0, 1]"),
        (["--lambda", "0.5", "--set", "embedding=0.1->0.2"], "reaches only what lies in layers"),
        (["--lambda", "0.5", "--base", ""], "an empty name is no model"),
    ],
)
def test_wrong_options_exit_2_with_one_sentence_and_write_nothing(tmp_path, options, message):
    done = mull("merge", *PAIR, "-o", tmp_path / "out", *options)
    assert done.returncode == 2, done.stdout
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", INSTRUCT, "--lambda", "0.5"], "two models or more, got 1"),
        (["--model", f"{INSTRUCT}=0.5", "--model", f"{THINKING}=0.6"], "the weights sum to 1.1"),
        (["--model", f"{INSTRUCT}=0.5", "--model", THINKING], "1 of 2 models have a weight"),
        (["--model", f"{INSTRUCT}=half", "--model", THINKING], "cannot read the weight"),
        (["--model", INSTRUCT, "--model", THINKING, "--model", BASE, "--lambda", "0.5"], "between 2 models, not 3"),
        (["--model", INSTRUCT, "--model", THINKING, "--lambda", "0.5", "--donor", "3"], "there is no donor '3'"),
        (["--instruct", INSTRUCT, "--lambda", "0.5"], "missing --thinking"),
    ],
)
def test_wrong_models_exit_2_with_one_sentence(tmp_path, options, message):
    done = mull("merge", *options, "-o", tmp_path / "out")
    assert done.returncode == 2, done.stdout
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_list_of_methods_names_parameters_and_papers():
    done = mull("methods")
    assert done.returncode == 0
    for word in ("ties", "density 0.2", "2306.01708", "mi-paper:ta-base", "breadcrumbs", "karcher"):
        assert word in done.stdout
