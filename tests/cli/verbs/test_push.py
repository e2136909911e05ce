"""`mull push` and `mull merge --run` on the command line."""

import pytest
from huggingface_hub import ModelCard

import mull as library
from mull.tiny import checkpoint_folder

from ...running import mull

PAIR = ("--instruct", checkpoint_folder("instruct"), "--thinking", checkpoint_folder("thinking"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    options = {"questions": 4, "k": 1, "lambdas": [0, 0.6], "max_tokens": 64, "device": "cpu", "quiet": True}
    return library.sweep(out=tmp_path_factory.mktemp("push") / "run", **options).folder


def test_a_dry_run_makes_the_checkpoint_and_prints_what_would_be_sent(run, tmp_path):
    out = tmp_path / "out"
    done = mull("push", run, "--to", "me/tiny-{lambda}", "--lambda", "0.6", "-o", out, "--private", "--dry-run")
    assert done.returncode == 0, done.stderr
    first, *files, last = done.stdout.splitlines()
    assert first == f"to me/tiny-0.6 (private) from {out}:" and last.startswith("dry run: nothing was sent")
    assert {line.split()[-1] for line in files} == {path.name for path in out.iterdir()}
    assert ModelCard.load(out / "README.md").data.model_name == "tiny-0.6"


def test_lambda_is_chosen_by_a_goal(run, tmp_path):
    done = mull("push", run, "--to", "me/tiny-{lambda}", "--budget", "40", "-o", tmp_path / "out", "--dry-run")
    assert done.returncode == 0 and "to me/tiny-0 from" in done.stdout, done.stderr
    assert "the most accurate with at most 40 tokens" in done.stderr
    none = mull("push", run, "--to", "me/tiny", "--budget", "1", "-o", tmp_path / "none", "--dry-run")
    assert none.returncode == 1 and not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "give --lambda (measured: 0, 0.6)"),
        (("--lambda", "0.6", "--budget", "40"), "give one of the two"),
        (("--lambda", "0,0.6"), "push one after the other"),
        (("--lambda", "0.3"), "λ = 0.3 was not measured"),
        (("--lambda", "0.6", "--to", "nobody"), "Write USER/NAME"),
    ],
)
def test_wrong_input_is_one_sentence(run, tmp_path, options, said):
    done = mull("push", run, "--to", "me/tiny", "-o", tmp_path / "out", "--dry-run", *options)
    assert done.returncode == 2 and said.lower() in done.stderr.lower(), done.stderr
    assert len(done.stderr.splitlines()) == 1 and not (tmp_path / "out").exists()


def test_a_merge_shows_the_figures_of_its_run(run, tmp_path):
    done = mull("merge", *PAIR, "--lambda", "0.6", "--run", run, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert ModelCard.load(tmp_path / "out" / "README.md").data.eval_results
    other = mull("merge", *PAIR, "--lambda", "0.5", "--run", run, "-o", tmp_path / "other")
    assert other.returncode == 2 and "was not measured" in other.stderr
    varied = mull("merge", *PAIR, "--lambda", "0.6", "--layers", "0-2", "--run", run, "-o", tmp_path / "other")
    assert varied.returncode == 2 and "one λ between the ends" in varied.stderr
