"""`mull merge` and `mull inspect` as a user runs them: exit codes, one-line errors, nothing half-written."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from mull.tiny import checkpoint_folder

from ...running import mull, process

INSTRUCT, THINKING = (str(checkpoint_folder(kind)) for kind in ("instruct", "thinking"))


def merge(out, *options, instruct=INSTRUCT, thinking=THINKING):
    return mull("merge", "--instruct", instruct, "--thinking", thinking, "-o", out, *options)


def test_merge_writes_a_whole_model_folder(tmp_path):
    ends = ("--instruct", INSTRUCT, "--thinking", THINKING)
    done = process("merge", *ends, "-o", tmp_path / "out", "--lambda", "0.8")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
        "README.md", "mull.json",
    }  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "README.md").read_text().startswith("---\nlibrary_name: transformers\ntags:\n- merge\n")


def test_dry_run_prints_the_plan_and_writes_nothing(tmp_path):
    done = merge(tmp_path / "out", "--lambda", "0.8", "--modules", "ffn", "--layers", "2-3", "--dry-run")
    assert done.returncode == 0
    assert "0.8 on modules ffn of layers 2-3" in done.stdout
    assert "6 mixed" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lambda", "1.3"], "lambda must lie in [0, 1], got 1.3 (1 = the Thinking checkpoint)"),
        (["--lambda", "nan"], "finite"),
        (["--lambda", "0.5", "--layers", "4-6"], "has 6 layers"),
        (["--lambda", "0.5", "--layers", "three"], "cannot read the layer range"),
        (["--lambda", "0.5", "--layers", ""], "cannot read the layer range"),
        (["--lambda", "0.5", "--modules", ""], "unknown module kind ''"),
        (["--lambda", "0.5", "--modules", "mlp"], "unknown module kind 'mlp'"),
        (["--lambda", "0.5", "--modules", "lm_head"], "no parameter matches"),
        (["--lambda", "0.5", "--dtype", "int8"], "unknown dtype 'int8'"),
        (["--lambda", "0.5", "--shard-size", "five"], "cannot read the shard size"),
        (["--lambda", "half"], "cannot read the lambdas 'half'"),
        ([], "--lambda"),
    ],
)
def test_wrong_options_exit_2_with_one_sentence_and_write_nothing(tmp_path, options, message):
    done = merge(tmp_path / "out", *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_another_dtype_is_what_loaders_take(tmp_path):
    from transformers import AutoModelForCausalLM

    assert merge(tmp_path / "out", "--lambda", "0.5", "--dtype", "float32").returncode == 0
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert str(model.dtype) == "torch.float32"


def test_a_config_of_more_layers_than_weights_is_refused(tmp_path):
    taller = tmp_path / "taller"
    shutil.copytree(THINKING, taller)
    config = json.loads((taller / "config.json").read_text())
    (taller / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 7}))
    done = merge(tmp_path / "out", "--lambda", "0.5", instruct=str(taller), thinking=str(taller))
    assert (done.returncode, "names 7 layers, its weights have 6" in done.stderr) == (2, True)


def test_an_output_inside_an_input_is_refused(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(THINKING, source)
    before = sorted(path.name for path in source.iterdir())
    done = merge(source / "out", "--lambda", "0.5", thinking=str(source))
    assert (done.returncode, "lies in the input" in done.stderr) == (2, True)
    assert sorted(path.name for path in source.iterdir()) == before


def test_nan_in_the_weights_is_said(tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(THINKING, broken)
    file = broken / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-4096:] = b"\xff\x7f" * 2048
    file.write_bytes(content)
    done = mull("inspect", INSTRUCT, broken)
    assert done.returncode == 1
    said = " ".join(done.stdout.split())
    assert "the Thinking side holds NaN or infinity: " in said and "These two cannot be mixed." in said
    report = json.loads(mull("inspect", INSTRUCT, broken, "--base", INSTRUCT, "--json").stdout)
    (finding,) = [finding for finding in report["findings"] if finding["code"] == "non-finite"]
    assert (finding["severity"], report["mixable"]) == ("refuse", False)
    numbers = [int(part.split(" in ")[0].replace(",", "")) for part in finding["what"].split(": ")[1].split(", ")]
    assert sum(numbers) == 2048
    assert 0 < report["sigma"]["Instruct, Thinking"]["overall"] < 1
    done = mull("inspect", INSTRUCT, broken, "--allow", "non-finite")
    assert done.returncode == 0 and "of the finite elements" in done.stdout
    ends = ("--instruct", INSTRUCT, "--thinking", broken, "--lambda", "0.5")
    done = mull("merge", *ends, "-o", tmp_path / "out")
    assert done.returncode == 2 and "holds NaN or infinity: " in done.stderr and "on the Thinking side" in done.stderr
    assert not (tmp_path / "out").exists()
    assert mull("merge", *ends, "-o", tmp_path / "out", "--allow", "non-finite").returncode == 0


def test_output_in_another_encoding(tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = process("inspect", INSTRUCT, THINKING, "--no-sigma", env=environment)
    assert (done.returncode, done.stderr) == (0, "")


def test_dry_run_refuses_what_the_merge_would_refuse(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    done = merge(tmp_path / "out", "--lambda", "0.5", "--dry-run")
    assert (done.returncode, "exists" in done.stderr) == (2, True)


def test_names_that_look_like_markup_are_printed_as_they_are(tmp_path):
    odd = tmp_path / "m[old]"
    shutil.copytree(THINKING, odd)
    tokenizer = json.loads((odd / "tokenizer.json").read_text())
    tokenizer["added_tokens"][0]["content"] = "[/INST]"
    (odd / "tokenizer.json").write_text(json.dumps(tokenizer))
    done = mull("inspect", INSTRUCT, odd, "--no-sigma")
    assert done.returncode == 1
    assert "m[old]" in done.stdout
    assert "[/INST]" in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--allow", "ropes"], "Did you mean 'rope'"), (["--no-sigma", "--png", "x.png"], "--png draws σ")],
)
def test_inspect_refuses_options_that_would_do_nothing(options, message):
    done = mull("inspect", INSTRUCT, THINKING, *options)
    assert (done.returncode, message in done.stderr) == (2, True)


def test_extrapolation_is_allowed_on_purpose(tmp_path):
    assert merge(tmp_path / "out", "--lambda", "1.2", "--extrapolate").returncode == 0


def test_an_existing_output_is_kept_without_overwrite(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    done = merge(out, "--lambda", "0.5")
    assert (done.returncode, "exists" in done.stderr) == (2, True)
    done = merge(out, "--lambda", "0.5", "--overwrite")
    assert (done.returncode, "not a model folder" in done.stderr) == (2, True)
    assert [path.name for path in out.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("side", ["nowhere", "file", "empty"])
def test_an_input_that_is_no_checkpoint_exits_2(tmp_path, side):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    done = merge(tmp_path / "out", "--lambda", "0.5", thinking=str(tmp_path / side))
    assert done.returncode == 2
    assert done.stderr.startswith("mull: ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_same_folder_and_swapped_sides_warn(tmp_path):
    assert "same folder" in merge(tmp_path / "a", "--lambda", "0.5", thinking=INSTRUCT).stderr
    assert "look swapped" in merge(tmp_path / "b", "--lambda", "0.5", instruct=THINKING, thinking=INSTRUCT).stderr


def test_inspect_exit_codes_and_json(tmp_path):
    done = mull("inspect", INSTRUCT, THINKING, "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["mixable"]) == (0, True)
    sigma = report["sigma"]["Instruct, Thinking"]
    assert 0 < sigma["overall"] < 0.2
    assert {cell["module"] for cell in sigma["cells"]} == {"attention", "ffn", "norm", "embedding"}

    other = tmp_path / "other"
    shutil.copytree(THINKING, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "rope_theta": 5e6}))
    done = mull("inspect", INSTRUCT, other, "--json")
    assert (done.returncode, json.loads(done.stdout)["mixable"]) == (1, False)
    assert mull("inspect", INSTRUCT, other, "--allow", "rope").returncode == 0
    assert mull("inspect", INSTRUCT, tmp_path / "nowhere").returncode == 2
    assert mull("inspect", INSTRUCT).returncode == 2


def test_inspect_shows_agreement_heat_map_and_png(tmp_path):
    done = mull("inspect", INSTRUCT, THINKING, "--base", checkpoint_folder("base"), "--png", tmp_path / "sigma.png")
    assert done.returncode == 0, done.stderr
    assert "σ(Instruct, Thinking)" in done.stdout
    assert "σ(Base, Thinking)" in done.stdout
    assert (tmp_path / "sigma.png").read_bytes().startswith(b"\x89PNG")


def test_help_starts_fast_and_shows_examples():
    done = mull("merge", "--help")
    assert done.returncode == 0
    assert "--lambda" in done.stdout and "mull merge --instruct A" in done.stdout
    heavy = ("torch", "transformers", "numpy", "polars", "altair")
    probe = f"import sys, mull.cli.main; print([m for m in {heavy} if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert loaded.stdout.strip() == "[]", loaded.stderr
