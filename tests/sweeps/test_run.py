"""Sweeps on the built-in pair with the real engine: complete, resumable after kill -9, equal to an unbroken run."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from mull.sweeps.store import RunStore
from mull.tiny import checkpoint_folder

ENDS = ["--instruct", str(checkpoint_folder("instruct")), "--thinking", str(checkpoint_folder("thinking"))]


def sweep(run, *options, **kwargs):
    command = [sys.executable, "-m", "mull.cli.main", "sweep", *ENDS, "--run", str(run), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs)


def texts(run):
    with RunStore.open(run) as store:
        return {(s.setting, s.question, s.index): s.text for s in store.samples()}


def count(run):
    try:
        with sqlite3.connect(f"file:{run / 'run.sqlite'}?mode=ro", uri=True) as connection:
            return connection.execute("SELECT COUNT(*) FROM samples").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    run = tmp_path_factory.mktemp("whole") / "run"
    process = sweep(run, *SIZE)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return run, output


SIZE = ("--lambdas", "0,0.5,1", "--questions", "14", "-k", "4", "--max-tokens", "600")


def test_a_sweep_holds_every_sample_of_its_plan(whole):
    run, output = whole
    with RunStore.open(run) as store:
        samples = store.samples()
        questions = store.questions
    assert {(s.setting, s.question, s.index) for s in samples} == {
        (setting, question, i) for setting in ("0", "0.5", "1") for question in questions for i in range(4)
    }
    assert all(s.tokens > 0 and s.finish in ("stop", "length") for s in samples)
    assert "mull report" in output


def test_the_ends_think_and_do_not_think(whole):
    run, _ = whole
    with RunStore.open(run) as store:
        samples = store.samples()
    closed = {lam: [s.thinking == "closed" for s in samples if s.lam == lam] for lam in (0.0, 1.0)}
    assert not any(closed[0.0])
    assert sum(closed[1.0]) >= 0.9 * len(closed[1.0])


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_sweep_goes_on_and_ends_as_if_unbroken(whole, tmp_path, stop):
    run = tmp_path / "run"
    process = sweep(run, *SIZE)
    deadline = time.monotonic() + 200
    while count(run) < 60 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, stop)
    _, errors = process.communicate(timeout=60)
    kept = texts(run)
    assert 60 <= len(kept) < 168
    if stop == signal.SIGINT:
        assert process.returncode == 130
        assert "Traceback" not in errors
    process = sweep(run, *SIZE)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert f"going on from {len(kept)} of 168" in errors
    assert texts(run) == texts(whole[0])


def test_a_complete_run_is_not_sampled_again(whole):
    run, _ = whole
    before = texts(run)
    process = sweep(run, *SIZE)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0
    assert "is complete" in errors
    assert texts(run) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lambdas", "0,1.5"], "lambda must lie in [0, 1], got 1.5"),
        (["--lambdas", "a:b"], "cannot read the lambdas"),
        (["--lambdas", "0:1:0.3"], "do not lead from 0 to 1"),
        (["--max-tokens", "0"], "--max-tokens"),
        (["--device", "cuda:77"], "cuda:77"),
        (["--benchmark", "aime"], "unknown benchmark 'aime'"),
        (["--layers", "3-9"], "reach beyond the model, which has 6 layers"),
        (["--modules", "lm_head"], "no parameter matches"),
        (["--modules", "atention"], "Did you mean 'attention'"),
        (["--temperature", "-1"], "temperature must be"),
        (["-k", "0"], "-k"),
    ],
)
def test_wrong_input_is_one_sentence_and_leaves_nothing(tmp_path, options, message):
    process = sweep(tmp_path / "run", *options)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 2
    assert message in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "run").exists()


def test_a_run_of_another_plan_is_refused_with_the_difference(whole):
    run, _ = whole
    process = sweep(run, *SIZE[:-2], "--max-tokens", "500")
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 2
    assert "sampling.max_tokens: 600 → 500" in errors
    with RunStore.open(run) as store:
        assert json.dumps(store.plan["sampling"]).count("600") == 1
