"""`mull paper` as a command: paths on stdout, what is missing on stderr, errors as one line."""

import shlex
from pathlib import Path

import pytest

from mull.dynamic.evaluation import session as evaluations
from mull.errors import MullError
from mull.merging.coefficients import Coefficients
from mull.reports.paper.missing import missing
from mull.reports.paper.runs import open_runs
from mull.runs.sessions import session
from mull.runs.settings import Setting
from mull.tiny import checkpoint_folder
from tests.reports.paper import conftest as runs

from ...running import mull


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    grid = [Setting.of(Coefficients.scalar(lam)) for lam in (0.0, 0.6, 1.0)]
    samples = [s for x in grid for s in runs.responses(x.label, x.lam, [2, 1, 0], 2, think=x.lam > 0.5)]
    return runs.write_run(tmp_path_factory.mktemp("cli") / "swept", grid, samples)


def test_one_command(run, tmp_path):
    done = mull("paper", run, "--out", tmp_path / "out", "--reference", "0.6")
    assert done.returncode == 0, done.stderr
    first, *others = done.stdout.splitlines()
    assert first == f"{tmp_path}/out/index.html"
    assert f"{tmp_path}/out/tables/comparison.{{tex,csv,parquet,md}}" in others
    for line in others:
        stem, suffixes = line.removesuffix("}").split(".{")
        assert all(Path(f"{stem}.{suffix}").is_file() for suffix in suffixes.split(","))
    assert "not in these runs:" in done.stderr and "incomplete" not in done.stderr
    assert "mull ablate layers --instruct org/instruct" in done.stderr
    assert "Thinking − MI-0.6" in (tmp_path / "out" / "tables" / "significance.md").read_text()


def test_an_incomplete_run_is_named(tmp_path):
    grid = [Setting.of(Coefficients.scalar(lam)) for lam in (0.0, 1.0)]
    runs.write_run(tmp_path / "half", grid, runs.responses("0", 0.0, [2, 1, 0], 2))
    done = mull("paper", tmp_path / "half", "--out", tmp_path / "out")
    assert done.returncode == 0 and "warning: half (incomplete: 50 %)" in done.stderr


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("{run}", "{run}"), "is given twice"),
        (("{run}/none",), "holds no run"),
        (("{run}", "--reference", "0.61"), "no sweep or comparison has the setting '0.61'. Did you mean '0.6'?"),
        (("{run}", "--out", "{run}"), "holds something else (.lock)"),
    ],
)
def test_wrong_input_is_one_sentence(run, tmp_path, arguments, message):
    given = [argument.format(run=run) for argument in arguments]
    done = mull("paper", *([] if "--out" in given else ["--out", tmp_path / "out"]), *given)
    assert done.returncode == 2, done.stdout
    assert message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
    assert (run / "run.sqlite").is_file()


@pytest.mark.parametrize("own_file", [False, True])
def test_offered_commands_ask_the_same_questions_in_the_same_way(own_file, tmp_path, monkeypatch):
    """The command line's own parser takes every offered command and plans what the run has on record."""
    folders = {role: checkpoint_folder(role) for role in ("instruct", "thinking", "base")}
    asked = ["--questions", "2", "--question-seed", "5"]
    if own_file:
        (tmp_path / "my sums.jsonl").write_text('{"question": "2+2?", "answer": "4"}\n')
        asked = ["--benchmark", tmp_path / "my sums.jsonl", "--grader", "integer"]
    pair = ["--instruct", folders["instruct"], "--thinking", folders["thinking"], "--donor", "instruct"]
    drawn = ["--temperature", "0.3", "--top-p", "0.7", "--top-k", "5", "--max-tokens", "8", "--seed", "3", "-k", "1"]
    swept = mull("sweep", *pair, *asked, *drawn, "--lambdas", "0.2,1", "--device", "cpu", "--run", tmp_path / "r")
    assert swept.returncode == 0, swept.stderr
    opened = open_runs([tmp_path / "r"])
    record = opened.runs[0].plan
    plans = []

    def expect(plan, *rest):
        plans.append(plan)
        return expected(plan, *rest)

    expected = session.expect
    monkeypatch.setattr(session, "expect", expect)
    monkeypatch.chdir(tmp_path)
    every = [each.command for each in missing(opened)]
    offered = [command for command in every if not command.startswith("mull route eval")]
    assert len(every) - len(offered) == (not own_file)  # own questions cannot be routed
    for command in offered:
        words = [word.replace("BASE", str(folders["base"])) for word in shlex.split(command)]
        words = [word.replace("HYBRID", str(folders["base"])) for word in words]
        done = mull(*words[1:], "--dry-run")
        assert done.returncode == 0, (command, done.stderr)
    same = ("instruct", "thinking", "donor", "benchmark", "questions", "k", "seed")
    assert len(plans) == len(offered) == 5 and all(" --device cpu " in command for command in offered)
    for plan in plans:
        assert {key: plan.record[key] for key in same} == {key: record[key] for key in same}
        assert plan.study == "decoding" or plan.record["sampling"] == record["sampling"]
        assert plan.record["sampling"]["max_tokens"] == 8 and plan.record["sampling"]["top_k"] == 5


def test_an_offered_evaluation_of_λ_per_query_plans_what_is_on_record(tmp_path, monkeypatch):
    """The command line's own parser takes it; questions, k, seed and sampling are those of the sweep."""
    pair = [word for role in ("instruct", "thinking") for word in (f"--{role}", checkpoint_folder(role))]
    asked = ["--questions", "3", "--question-seed", "5", "--temperature", "0.3", "--max-tokens", "8", "--seed", "3"]
    swept = mull("sweep", *pair, *asked, "-k", "1", "--lambdas", "0,1", "--device", "cpu", "--run", tmp_path / "r")
    assert swept.returncode == 0, swept.stderr
    opened = open_runs([tmp_path / "r"])
    command = next(each.command for each in missing(opened) if each.what == "λ per query on tiny")
    planned = []

    def take(evaluation, out, *rest):
        planned.append((evaluation.plan(evaluation.benchmarks[0]).record, out))
        raise MullError("taken")

    monkeypatch.setattr(evaluations, "evaluate", take)
    done = mull(*shlex.split(command)[1:])
    assert "taken" in done.stderr and len(planned) == 1, done.stderr
    record, out = planned[0]
    same = ("instruct", "thinking", "donor", "benchmark", "questions", "k", "seed", "sampling")
    assert {key: record[key] for key in same} == {key: opened.runs[0].plan[key] for key in same}
    assert str(out) == "route"
