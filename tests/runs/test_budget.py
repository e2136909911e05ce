"""Thinking budgets in a whole run: on record as their own kind, beside λ, and the same whatever is sampled together."""

from __future__ import annotations

import json

import pytest

from mull.runs.store import RunStore
from mull.thinking import split_thinking
from mull.tiny import checkpoint_folder
from tests.running import mull

ENDS = ("--instruct", checkpoint_folder("instruct"), "--thinking", checkpoint_folder("thinking"))
SIZE = ("--questions", 6, "-k", 2, "--lambdas", "0,1", "--max-tokens", 160)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("budget") / "run"
    done = mull("sweep", *ENDS, *SIZE, "--budgeted-thinking", "10,90", "--run", folder)
    assert done.returncode == 0, done.stderr
    return folder


def samples(folder):
    with RunStore.open(folder) as store:
        return store.samples()


def test_a_budget_is_a_setting_beside_the_lambdas(run):
    found = samples(run)
    assert {s.setting: s.lam for s in found} == {
        "0": 0.0, "1": 1.0, "Thinking, budget 10": None, "Thinking, budget 90": None,
    }  # fmt: skip
    free = {s.key[1:]: s for s in found if s.setting == "1"}
    for sample in found:
        if sample.lam is not None:
            assert sample.thinking != "forced"
            continue
        budget = int(sample.setting.rsplit(" ", 1)[1])
        other = free[sample.key[1:]]
        if sample.thinking != "forced":
            assert sample.text == other.text, "a thought that ends in time is left alone"
            continue
        thought = sample.text[: sample.text.index("</think>")]
        assert other.text.startswith(thought), "up to the budget it is the same thought"
        assert sample.thought_tokens >= budget + 1
        assert "</think>" not in split_thinking(sample.text, finished=True).answer
    kinds = {s.setting: {r.thinking for r in found if r.setting == s.setting} for s in found}
    assert kinds["Thinking, budget 10"] == {"forced"}


def test_the_plan_has_budgets_where_they_are_used_only(run):
    with RunStore.open(run) as store:
        plan = store.plan
    assert "thinking_budget" not in plan["sampling"]
    assert plan["settings"]["Thinking, budget 10"]["sampling"]["thinking_budget"] == 10
    assert plan["study"] == "sweep"


def test_a_report_shows_the_budgets(run):
    done = mull("report", run, "--json")
    found = json.loads(done.stdout)
    by_name = {each["setting"]: each for each in found["settings"]}
    assert list(by_name) == ["0", "1", "Thinking, budget 10", "Thinking, budget 90"]
    assert by_name["Thinking, budget 10"]["thinking"]["forced"]["value"] == 1
    assert by_name["Thinking, budget 10"]["think_ratio"]["value"] == 0, "what was forced is no Think #R"


def test_a_choice_speaks_of_budgets_apart_from_lambda(run):
    """They are no neighbours of a λ, and stand in their own order."""
    done = mull("choose", run, "--budget", 10**6)
    assert done.returncode == 0 and "hang together" not in done.stdout
    assert done.stdout.index("budget 10 ") < done.stdout.index("budget 90 ")
    found = json.loads(mull("choose", run, "--budget", 10**6, "--json").stdout)
    assert found["feasible"] == [["0", "1"], ["Thinking, budget 10"], ["Thinking, budget 90"]]


def test_one_budget_for_all(run, tmp_path):
    done = mull("sweep", *ENDS, *SIZE, "--thinking-budget", 10, "--run", tmp_path / "all")
    assert done.returncode == 0, done.stderr
    texts = {s.key[1:]: s.text for s in samples(tmp_path / "all") if s.setting == "1"}
    assert texts == {s.key[1:]: s.text for s in samples(run) if s.setting == "Thinking, budget 10"}
    again = mull("sweep", *ENDS, *SIZE, "--thinking-budget", 20, "--run", tmp_path / "all")
    assert again.returncode == 2 and "thinking_budget: 10 → 20" in again.stderr


@pytest.mark.parametrize("given", ["x", "5,5", "-1", ""])
def test_budgets_that_are_none(given, tmp_path):
    done = mull("sweep", *ENDS, *SIZE, f"--budgeted-thinking={given}", "--run", tmp_path / "r")
    assert done.returncode == 2 and "--budgeted-thinking" in done.stderr
    assert not (tmp_path / "r").exists()


def test_a_message_is_part_of_the_plan(run, tmp_path):
    """Runs that differ in it are different; it goes with each kind of budget, and with none it is refused."""
    said = ("--budget-message", r"\n= 4\n")
    done = mull("sweep", *ENDS, *SIZE, "--budgeted-thinking", "10,90", *said, "--run", run)
    assert done.returncode == 2 and "Thinking, budget 90). Go on with the old settings" in done.stderr
    folder = tmp_path / "said"
    few = ("--questions", 2, "-k", 1, "--lambdas", "1", "--max-tokens", 60)
    done = mull("sweep", *ENDS, *few, "--budgeted-thinking", "10", *said, "--run", folder)
    assert done.returncode == 0, done.stderr
    with RunStore.open(folder) as store:
        assert store.plan["settings"]["Thinking, budget 10"]["sampling"]["budget_message"] == "\n= 4\n"
        assert "budget_message" not in store.plan["sampling"]
    forced = [sample for sample in samples(folder) if sample.thinking == "forced"]
    assert forced and all("\n= 4\n</think>" in sample.text for sample in forced)
    done = mull("sweep", *ENDS, *few, *said, "--run", tmp_path / "none")
    assert done.returncode == 2 and "--thinking-budget" in done.stderr
    server = ("--endpoint", "http://localhost:1/v1", "--model-map", "m@{lambda}", "--thinking-budget", 10)
    done = mull("sweep", *server, *few, *said, "--run", tmp_path / "server")
    assert done.returncode == 2 and "--budget-message cannot be had from servers" in done.stderr
