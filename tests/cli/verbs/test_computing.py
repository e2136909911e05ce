"""Device, dtype and memory as a user gives them: what a dry run says of them, and what is refused before loading."""

import json
import os

import pytest

from mull.runs.store import RunStore
from mull.tiny import checkpoint_folder

from ...running import mull

PAIR = ("--instruct", checkpoint_folder("instruct"), "--thinking", checkpoint_folder("thinking"), "--device", "cpu")
FEW = ("--benchmark", "tiny", "--questions", "8", "-k", "1", "--max-tokens", "32", "--lambdas", "0.5")
BYTES = 1_880_064
"""Of the weights of one side, which are in 16 bits."""


def test_a_dry_run_shows_the_arithmetic_of_memory(tmp_path):
    done = mull("sweep", *PAIR, *FEW, "--run", tmp_path / "run", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "the ends: 3.8 MB, in their mapped files" in done.stdout
    rows = 128 * len(os.sched_getaffinity(0))
    assert "mixed weights: 3.8 MB" in done.stdout and f"of which {rows} fit at once" in done.stdout
    chosen = ("--dtype", "bfloat16", "--ends", "memory", "--batch-size", "4")
    done = mull("compare", *PAIR, *FEW, *chosen, "--run", tmp_path / "run", "--dry-run", "--json")
    found = json.loads(done.stdout)["memory"]
    assert (found["ends_at"], found["ends"], found["mixed"]) == ("memory", 2 * BYTES, BYTES)
    assert found["cache"] == found["rows"] * found["per_row"]
    assert found["peak"] == 3 * BYTES + found["cache"]


@pytest.mark.parametrize(
    ("more", "said", "remedy"),
    [
        ((), "the weights (3.8 MB mixed) do not fit cpu, which has 3.0 MB free", "--dtype bfloat16"),
        (("--dtype", "bfloat16", "--ends", "memory"), "(1.9 MB mixed, 3.8 MB of the ends)", "--ends files"),
    ],
)
@pytest.mark.parametrize("dry", [("--dry-run",), ()])
def test_what_cannot_fit_is_refused_before_it_is_loaded(tmp_path, monkeypatch, more, said, remedy, dry):
    monkeypatch.setattr("mull.engines.weights.placement.known_free_memory", lambda device: 3_000_000)
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", None)  # whoever loads weights fails
    done = mull("sweep", *PAIR, *FEW, *more, *dry, "--run", tmp_path / "run")
    assert done.returncode == 2 and not (tmp_path / "run").exists()
    assert said in " ".join(done.stderr.split()) and remedy in done.stderr


def test_a_dtype_is_the_runs_own(tmp_path):
    run = tmp_path / "run"
    first = mull("sweep", *PAIR, *FEW, "--dtype", "bfloat16", "--ends", "memory", "--run", run)
    assert first.returncode == 0, first.stderr
    with RunStore.open(run) as store:
        assert store.plan["engine"] == "local/bfloat16/cpu"
    other = mull("sweep", *PAIR, *FEW, "-k", "2", "--run", run)
    assert other.returncode == 2 and "engine: local/bfloat16/cpu → local/float32/cpu" in other.stderr
    again = mull("sweep", *PAIR, *FEW, "--dtype", "bfloat16", "--run", run)
    assert again.returncode == 0 and "is complete" in again.stderr, "where the ends are is not the run's matter"
