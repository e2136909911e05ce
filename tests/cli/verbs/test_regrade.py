"""`mull benchmarks`, a file of one's own in `mull sweep`, `mull regrade`, and `mull report --grading`."""

import json

import pytest

from mull.tiny import checkpoint_folder

from ...running import mull, process

ENDS = ["--instruct", str(checkpoint_folder("instruct")), "--thinking", str(checkpoint_folder("thinking"))]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    rows = [{"question": f"Compute {a} + {b}.", "answer": str(a + b)} for a, b in ((11, 12), (40, 5), (7, 30))]
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sweep = ["sweep", *ENDS, "--benchmark", folder / "sums.jsonl", "--lambdas", "0,1", "-k", "2", "--max-tokens", "150"]
    done = mull(*sweep, "--grader", "integer", "--run", folder / "run")
    assert done.returncode == 0, done.stderr
    return folder, sweep


def test_benchmarks_are_listed():
    done = mull("benchmarks")
    assert done.returncode == 0
    for text in ("aime25", "opencompass/AIME2025@a6ad95f6", "gated", "letter-robust", "JSONL"):
        assert text in done.stdout


def test_the_grader_belongs_to_the_plan(swept):
    folder, sweep = swept
    done = mull(*sweep, "--grader", "exact", "--run", folder / "run")
    assert done.returncode == 2 and "benchmark.grader.name: integer → exact" in done.stderr


def test_regrade_compares_and_report_uses_the_original_unless_asked(swept):
    folder, _ = swept
    done = mull("regrade", folder / "run", "--grader", "exact")
    assert done.returncode == 0, done.stderr
    assert "became right" in done.stdout and "became wrong" in done.stdout
    name = next(line.removeprefix("grading: ") for line in done.stdout.splitlines() if line.startswith("grading: "))
    assert name.startswith("exact-")
    original = mull("report", folder / "run", "--parquet", folder / "a.parquet")
    assert original.returncode == 0 and str(folder / "run" / "report" / "report.html") in original.stdout
    later = mull("report", folder / "run", "--grading", "exact", "--parquet", folder / "b.parquet")
    assert later.returncode == 0 and str(folder / "run" / "report-exact" / "report.html") in later.stdout
    unknown = mull("report", folder / "run", "--grading", "math")
    assert unknown.returncode == 2 and f"Give one of {name}" in unknown.stderr


def test_most_right_answers_that_become_wrong_are_warned_of(tmp_path):
    """A grader that looks for letters finds none in sums: each right answer becomes wrong, which is said."""
    sweep = ("sweep", *ENDS, "--questions", "6", "--lambdas", "0", "-k", "1", "--max-tokens", "60")
    assert mull(*sweep, "--run", tmp_path / "run").returncode == 0
    done = mull("regrade", tmp_path / "run", "--grader", "letter-robust")
    right = int(done.stderr.split(" of ")[1].split()[0])
    assert done.returncode == 0 and right > 0
    assert f"warning {right} of {right} right answer" in done.stderr and "became wrong" in done.stderr
    assert "without --grading, mull report" in done.stderr
    assert "warning" not in mull("regrade", tmp_path / "run", "--grader", "integer").stderr


def test_a_missing_run_or_grader_is_one_line(swept, tmp_path):
    folder, _ = swept
    for arguments, said in (
        ((tmp_path,), "holds no run"),
        ((folder / "run", "--grader", "exakt"), "unknown grader 'exakt'. Did you mean 'exact'?"),
        ((folder / "run", "--data", tmp_path / "x.jsonl"), "cannot read"),
    ):
        done = mull("regrade", *arguments)
        assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1


def test_without_network_the_hub_is_one_line(tmp_path):
    import os

    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    sweep = ("sweep", *ENDS, "--benchmark", "amc23", "--grader", "integer", "--run", tmp_path / "r")
    done = process(*sweep, env=environment)  # the hub's client reads its variables when it is imported
    assert done.returncode == 2 and "could not be loaded from the hub" in done.stderr and "--data FILE" in done.stderr
    assert done.stderr.count("\n") == 1


def test_gpqa_stays_in_the_runs_database(tmp_path):
    data = tmp_path / "gpqa_diamond.csv"
    head = "Question,Correct Answer,Incorrect Answer 1,Incorrect Answer 2,Incorrect Answer 3\n"
    data.write_text(head + "SECRET one?,r,a,b,c\nSECRET two?,r,a,b,c\n")
    run = tmp_path / "run"
    sweep = ("sweep", *ENDS, "--benchmark", "gpqa", "--data", data, "--lambdas", "0,1", "-k", "1", "--max-tokens", "40")
    done = [mull(*sweep, "--run", run), mull("report", run), mull("regrade", run, "--grader", "letter-robust")]
    assert [each.returncode for each in done] == [0, 0, 0], done
    assert not any("SECRET" in each.stdout + each.stderr for each in done)
    assert "no strict letter" in done[0].stdout
    holding = {path.name for path in run.rglob("*") if path.is_file() and b"SECRET" in path.read_bytes()}
    assert holding and all(name.startswith("run.sqlite") for name in holding)
    assert "the page holds no responses" in (run / "report" / "report.html").read_text()
