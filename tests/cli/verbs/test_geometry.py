"""`mull geometry`: summary, JSON, files, refusals."""

from __future__ import annotations

import csv
import json
import os
import signal

import pytest

from mull.tiny import checkpoint_folder

from ...running import mull, started

ENDS = ("--instruct", checkpoint_folder("instruct"), "--thinking", checkpoint_folder("thinking"))
SMALL = ("--questions", 3, "--lambdas", "0.5", "--max-tokens", 60)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("geometry") / "out"
    return folder, mull("geometry", *SMALL, "--out", folder)


def test_the_built_in_pair_needs_no_option_and_the_summary_says_what_was_found(out):
    folder, done = out
    assert done.returncode == 0, done.stderr
    for text in ("instruct → thinking", "lowest CKA", "barrier, both", "σ of all weights", "shuffled weights"):
        assert text in done.stdout
    assert "Interpolation is" in done.stdout
    assert str(folder / "geometry.html") in done.stdout
    names = ("summary", "layers", "continuity", "linearity", "loss", "weights")
    assert sorted(path.name for path in folder.iterdir()) == sorted(["geometry.html", *(f"{n}.csv" for n in names)])


def test_tables_hold_every_layer_and_step(out):
    rows = list(csv.DictReader((out[0] / "continuity.csv").open()))
    assert len(rows) == 7 * 2  # embedding and six layers × 0→0.5→1
    assert (rows[0]["layer"], rows[0]["lambda"], rows[0]["next"]) == ("embedding", "0.0", "0.5")
    for row in rows:
        assert float(row["pair_cka_low"]) <= float(row["pair_cka"]) <= float(row["pair_cka_high"])
    losses = list(csv.DictReader((out[0] / "loss.csv").open()))
    assert [row["lambda"] for row in losses] == ["0", "0.5", "1"] * 3
    assert float(losses[0]["pair_excess"]) == 0 and losses[1]["control_loss"]


def test_json_is_one_object_with_the_tables(out, tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    lines = [{"prompt": f"Take 0{i} and do +6 -5. Give the last two digits."} for i in range(5)]
    prompts.write_text("\n".join(map(json.dumps, lines)))
    done = mull("geometry", *ENDS, *SMALL, "--prompts", prompts, "--out", tmp_path / "out", "--json")
    found = json.loads(done.stdout)
    assert found["setup"]["questions"].startswith("3 questions")
    assert {"verdict", "gradual", "connected", "cka_gain", "summary", "continuity", "loss", "weights"} <= set(found)
    assert found["summary"][0]["measure"] == "lowest_cka"
    assert found["files"][0].endswith("geometry.html")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (ENDS[:2], "--thinking is missing"),
        (("--lambdas", "0,1"), "has no λ between the ends"),
        (("--lambdas", "0:2:0.5"), "lambda must lie in [0, 1]"),
        (("--prompts", "nowhere.txt"), "cannot read the prompts nowhere.txt"),
        (("--run", "nowhere"), "nowhere holds no run"),
        (("--out", __file__), "cannot be written"),
    ],
)
def test_what_cannot_be_done_is_one_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = mull("geometry", *arguments)
    assert done.returncode == 2 and message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and list(tmp_path.iterdir()) == []


def test_a_prompt_beyond_the_context_is_named(tmp_path):
    (tmp_path / "p.txt").write_text("7 8\n" + "7 " * 1100 + "\n")
    done = mull("geometry", "--prompts", tmp_path / "p.txt", "--out", tmp_path / "out")
    assert done.returncode == 2 and "prompt 2 of" in done.stderr and "1,024" in done.stderr


def test_ctrl_c_ends_it(tmp_path):
    process = started("geometry", "--out", tmp_path / "out", env={**os.environ, "PYTHONUNBUFFERED": "1"})
    assert process.stderr and "warning" in process.stderr.readline()
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130 and "mull: interrupted" in errors and "Traceback" not in errors
    assert not (tmp_path / "out").exists()
