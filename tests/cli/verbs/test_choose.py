"""`mull choose` on the built-in pair: from a run, and with samples of its own, stopped and gone on with."""

import json
import os
import signal
import sqlite3

import pytest

from mull.runs.store import RunStore
from mull.tiny import checkpoint_folder

from ...running import mull, started, wait_for_responses

ENDS = ["--instruct", str(checkpoint_folder("instruct")), "--thinking", str(checkpoint_folder("thinking"))]
SIZE = ["--lambdas", "0:1:0.1", "-k", "4", "--questions", "28", "--max-tokens", "600"]
BUDGET = ["--budget", "70"]


def said(*options, code=0):
    done = mull(*options)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def texts(run):
    with RunStore.open(run) as store:
        return {(s.setting, s.question, s.index): s.text for s in store.samples()}


@pytest.fixture(scope="module")
def raced(tmp_path_factory):
    run = tmp_path_factory.mktemp("raced") / "run"
    output, errors = said("choose", *ENDS, *SIZE, *BUDGET, "--run", run)
    return run, output, errors


def test_it_chooses_with_a_part_of_the_grid_and_says_how_surely(raced):
    run, output, errors = raced
    assert "the most accurate with at most 70 tokens on average" in output
    assert "questions that took no part" in output
    assert "mull merge" in output and "--lambda 0.5" in output
    assert "a first look: λ = 0, 0.2, 1" in errors
    assert len(texts(run)) < 0.6 * 11 * 28 * 4, "a smaller grid than the default leaves less to save"


def test_again_it_samples_nothing_and_says_the_same(raced):
    run, output, _ = raced
    before = texts(run)
    again, errors = said("choose", *ENDS, *SIZE, *BUDGET, "--run", run)
    assert again == output and texts(run) == before
    assert "loading" not in errors


def test_stopped_it_goes_on_to_the_same_choice(raced, tmp_path):
    whole, output, _ = raced
    run = tmp_path / "run"
    for stop, enough in ((signal.SIGKILL, 60), (signal.SIGINT, 180)):
        process = started("choose", *ENDS, *SIZE, *BUDGET, "--run", run)
        wait_for_responses(run, enough, process)
        os.kill(process.pid, stop)
        _, errors = process.communicate()
        assert enough <= len(texts(run)) < len(texts(whole))
    assert process.returncode == 130 and "Traceback" not in errors
    kept = len(texts(run))
    with RunStore.open(run) as store:
        broken_off = store.under_way
    assert broken_off
    _, errors = said("choose", run, *BUDGET)
    assert any(f"left out: λ = {lam}" in errors for lam in broken_off) or "no λ is finished" in errors
    again, errors = said("choose", *ENDS, *SIZE, *BUDGET, "--run", run)
    assert f"{kept} responses are on record" in errors
    assert texts(run) == texts(whole)
    assert again.replace(str(run), str(whole)) == output
    with RunStore.open(run) as store:
        assert store.under_way == []
    _, errors = said("choose", run, *BUDGET)
    assert "left out" not in errors and "questions that all λ were asked" in errors


def test_another_goal_uses_what_is_there(raced):
    run, _, _ = raced
    before = texts(run)
    output, errors = said("choose", *ENDS, *SIZE, "--min-accuracy", "0.85", "--run", run, "--json")
    found = json.loads(output)
    assert found["pick"]["lam"] >= 0.5
    assert "on record)" in errors
    assert texts(run).items() >= before.items()
    assert found["responses"]["full_grid"] == 11 * 28 * 4


def test_another_plan_is_refused(raced):
    _, errors = said("choose", *ENDS, *SIZE[:-2], *BUDGET, "--run", raced[0], code=2)
    assert "sampling.max_tokens: 600 → 768" in errors


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    run = tmp_path_factory.mktemp("swept") / "run"
    said("sweep", *ENDS, "--lambdas", "0,0.5,1", "--questions", "14", "-k", "2", "--run", run)
    return run


def test_from_a_run(swept):
    output, _ = said("choose", swept, "--budget", "130")
    assert "λ = 0.5: the most accurate with at most 130 tokens on average" in output
    output, _ = said("choose", swept, "--budget", "5", code=1)
    assert "No λ that was measured gives at most 5 tokens on average. Nearest is λ = 0" in output
    found = json.loads(said("choose", swept, "--budget", "400", "--quantile", "0.9", "--json")[0])
    assert found["goal"] == {"budget": 400, "quantile": 0.9, "min_accuracy": None}
    assert found["feasible"][0][0] == "0" and [o["setting"] for o in found["options"]] == ["0", "0.5", "1"]
    assert all(set(option["tokens"]) == {"value", "error"} for option in found["options"])


def test_a_setting_that_is_not_finished_is_left_out(swept, tmp_path):
    with sqlite3.connect(swept / "run.sqlite") as old, sqlite3.connect(tmp_path / "run.sqlite") as new:
        old.backup(new)
        new.execute("DELETE FROM samples WHERE setting = '0.5' AND tokens > 100")
    output, errors = said("choose", tmp_path, "--budget", "130")
    assert "not finished, so left out: λ = 0.5" in errors
    assert "λ = 0: the most accurate" in output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["x", "--run", "y", "--budget", "5"], "x is a run to choose from, and --run asks for a new one"),
        (["x", "--budget", "50", "--lambdas", "0", "-k", "2"], "--lambdas, -k asks for a new one"),
        ([*ENDS, "--run", "y", "--budget", "50", "--omit", "seed"], "--omit is for servers, and none is named"),
        (["--budget", "5"], "--instruct is missing"),
        (["x", "--budget", "5"], "x holds no run"),
        (["x"], "either --budget or --min-accuracy"),
        (["x", "--min-accuracy", "80"], "min-accuracy must lie in [0, 1]"),
        ([*ENDS, "--run", "y", "--budget", "50", "--questions", "3"], "6 questions"),
        ([*ENDS, "--run", "y", "--budget", "50", "--lambdas", "0,2"], "lambda must lie in [0, 1]"),
    ],
)
def test_wrong_input_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    _, errors = said("choose", *options, code=2)
    assert message in errors
    assert list(tmp_path.iterdir()) == []
