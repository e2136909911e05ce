"""`mull extract-delta` as a user runs it."""

import json
import os
import signal

import pytest

from mull.tiny import checkpoint_folder

from ...running import mull, started

INSTRUCT, THINKING = (str(checkpoint_folder(kind)) for kind in ("instruct", "thinking"))
BASE = ["extract-delta", "--instruct", INSTRUCT, "--thinking", THINKING]


def extract(out, *options):
    return mull(*BASE, "-o", out, *options)


def test_it_writes_an_adapter_with_its_figures(tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text(
        "Take 04 and do +6 -5. Give the last two digits.\nTake 09 and do *6 -5. Give the last two digits.\n"
    )
    done = extract(tmp_path / "out", "--rank", 16, "--prompts", prompts, "--lambda", "0.4", "--positions", 3)
    assert done.returncode == 0, done.stderr
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"adapter_config.json", "adapter_model.safetensors", "mull.json", "README.md"}
    record = json.loads((tmp_path / "out" / "mull.json").read_text())
    assert [row["lambda"] for row in record["kl"]["lambdas"]] == [0.4, 1.0]
    assert len(record["cells"]) == 12 and len(record["tensors"]) == 42
    assert {entry["reason"] for entry in record["without_factors"]} == {"norm", "embedding"}
    assert f"relative error {record['represented']['relative_error']:.3f}" in done.stdout
    card = (tmp_path / "out" / "README.md").read_text()
    assert "library_name: peft" in card and "KL(Θ(λ) ‖ Instruct + λ·adapter)" in card
    assert str(checkpoint_folder("instruct")) not in card  # a path on this machine is nobody else's business


def test_levels_stand_beside_the_adapter(tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("Take 04 and do +6 -5. Give the last two digits.\n")
    out = tmp_path / "out"
    done = extract(out, "--rank", 4, "--levels", "0:0.8:0.4", "--name", "pair", "--prompts", prompts, "--lambda", 0)
    assert done.returncode == 0, done.stderr
    names = {path.name for path in out.iterdir()}
    assert names >= {"adapter_config.json", "adapter_model.safetensors", "pair@0.4", "pair@0.8", "serve.sh"}
    assert "pair@0" not in names
    record = json.loads((out / "mull.json").read_text())
    assert record["levels"] == {"name": "pair", "lambdas": [0.4, 0.8]}
    assert [row["lambda"] for row in record["kl"]["lambdas"]] == [0.0, 0.4, 0.8, 1.0]
    assert (out / "serve.sh").read_text() in done.stdout
    assert "--max-lora-rank 8" in done.stdout and "pair@0.8" in (out / "README.md").read_text()
    assert extract(out, "--rank", 4, "--levels", "1", "--overwrite").returncode == 0
    assert {path.name for path in out.iterdir() if path.is_dir()} == {"mull@1"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rank", "0"], "rank must be at least 1, got 0"),
        (["--rank", "4", "--modules", "norm"], "no weight of a linear layer"),
        (["--rank", "4", "--layers", "4-6"], "has 6 layers"),
        (["--rank", "4", "--dtype", "int8"], "unknown dtype 'int8'"),
        (["--rank", "4", "--lambda", "0.4"], "are for --prompts"),
        (["--rank", "4", "--prompts", "nowhere.txt"], "cannot read the prompts"),
        (["--rank", "4", "--prompts", __file__, "--lambda", "1.4"], "lambda must lie in [0, 1]"),
        (["--rank", "4", "--levels", "1.4"], "lambda must lie in [0, 1]"),
        (["--rank", "4", "--levels", "0"], "no level lies above 0"),
        (["--rank", "4", "--levels", "1", "--name", "a b"], "is no name of levels"),
        (["--rank", "4", "--name", "pair"], "--name is for --levels"),
        (["--rank", "513", "--levels", "1"], "above 512, the highest that vLLM takes"),
        (["--rank", "4", "--levels", "1", "--save-rest"], "does not go with --save-rest"),
    ],
)
def test_wrong_options_exit_2_with_one_sentence_and_write_nothing(tmp_path, options, message):
    done = extract(tmp_path / "out", *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_kept_unless_it_is_an_adapter_to_overwrite(tmp_path):
    out = tmp_path / "out"
    assert extract(out, "--rank", 2).returncode == 0
    before = (out / "adapter_model.safetensors").read_bytes()
    done = extract(out, "--rank", 3)
    assert (done.returncode, "exists" in done.stderr) == (2, True)
    assert (out / "adapter_model.safetensors").read_bytes() == before
    assert extract(out, "--rank", 3, "--overwrite").returncode == 0
    assert (out / "adapter_model.safetensors").read_bytes() != before
    assert extract(INSTRUCT, "--rank", 2, "--overwrite").returncode == 2


@pytest.mark.parametrize("moment", ["SVD", "factors cover"])  # what is printed before the SVDs, before the KL
def test_ctrl_c_leaves_nothing(tmp_path, moment):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("Take 04 and do +6 -5. Give the last two digits.\n" * 500)
    options = ("-o", tmp_path / "out", "--prompts", prompts, "--positions", "16")
    process = started(*BASE, *options, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    assert process.stdout
    assert any(moment in line for line in iter(process.stdout.readline, ""))
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors and "interrupted" in errors
    assert [path.name for path in tmp_path.iterdir()] == ["prompts.txt"]


def test_help_shows_examples():
    done = mull("extract-delta", "--help")
    assert done.returncode == 0
    assert "--rank" in done.stdout and "mull extract-delta --instruct A" in done.stdout
