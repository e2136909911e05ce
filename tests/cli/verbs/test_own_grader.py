"""`--grader FILE.py:FUNCTION`: a grader of the user's own in a sweep, its copy in the run, and in `mull regrade`."""

import pytest

import mull as api
from mull.runs.store import RunStore
from mull.tiny import checkpoint_folder

from ...running import mull

ENDS = ["--instruct", str(checkpoint_folder("instruct")), "--thinking", str(checkpoint_folder("thinking"))]
SMALL = [*ENDS, "--questions", "2", "--lambdas", "0", "-k", "1", "--max-tokens", "60"]
ALL = "def all_right(answer, gold):\n    return True\n"


@pytest.fixture
def grader(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(ALL)
    return path


@pytest.fixture
def run(tmp_path, grader):
    done = mull("sweep", *SMALL, "--grader", f"{grader}:all_right", "--run", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    return tmp_path / "run"


def grades(run, grading=None):
    with RunStore.open(run, grading=grading) as store:
        return [(sample.correct, bool(sample.answer)) for sample in store.samples()]


def test_it_grades_and_the_run_keeps_the_file(run, grader):
    assert grades(run) == [(True, True)] * 2
    with RunStore.open(run) as store:
        recorded = store.plan["benchmark"]["grader"]
    assert recorded["name"] == "mine.all_right"
    assert (run / "graders" / recorded["sha256"][:8] / "mine.py").read_text() == ALL


def test_the_run_goes_on_with_the_same_file_only(run, grader, tmp_path):
    grader.rename(tmp_path / "moved.py")
    (tmp_path / "elsewhere").mkdir()
    copy = next(run.glob("graders/*/mine.py"))
    more = ["sweep", *SMALL, "--run", run, "-k", "2", "--grader"]
    assert mull(*more, f"{copy}:all_right").returncode == 0 and len(grades(run)) == 4
    grader.write_text(ALL + "\n")
    done = mull(*more, f"{grader}:all_right")
    assert done.returncode == 2 and "benchmark.grader.sha256: " in done.stderr
    assert len(list(run.glob("graders/*/mine.py"))) == 1, "what was refused leaves nothing"


def test_an_error_in_it_is_one_line_with_the_question(tmp_path, grader):
    grader.write_text("def strict(answer, gold):\n    return int(answer) > 0\n")
    done = mull("sweep", *SMALL, "--grader", f"{grader}:strict", "--run", tmp_path / "run")
    said = f"mull: the grader {grader}:strict failed on question 'report-0-0000': ValueError: "
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith(said)
    assert not (tmp_path / "run").exists(), "an empty run would be in the way of the mended grader"


def test_in_a_study_file(tmp_path, grader, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.toml").write_text('grader = "mine.py:all_right"\nquestions = 2\nk = 1\nlambdas = [0]\n')
    done = mull("sweep", *ENDS, "--max-tokens", "60", "--config", "study.toml", "--run", "run")
    assert done.returncode == 0, done.stderr
    assert grades(tmp_path / "run") == [(True, True)] * 2


def test_regrade_knows_it_and_runs_it_only_if_it_is_named(run, grader, tmp_path):
    grader.write_text("def none_right(answer, gold):\n    return False\n")
    done = mull("regrade", run)
    assert done.returncode == 2 and "a function of its user's own, mine.py:all_right. Give it: --grader" in done.stderr
    done = mull("regrade", run, "--grader", f"{grader}:none_right")
    assert done.returncode == 0, done.stderr
    assert grades(run, "mine.none_right") == [(False, True)] * 2 and grades(run) == [(True, True)] * 2
    kept = {path.read_text() for path in run.glob("graders/*/mine.py")}
    assert kept == {ALL, grader.read_text()}


def test_in_python(tmp_path, grader):
    options = {"questions": 2, "max_tokens": 60, "k": 1, "lambdas": [0], "quiet": True}
    run = api.sweep(out=tmp_path / "run", grader=f"{grader}:all_right", **options)
    assert run.metrics["mean_at_k"].to_list() == [1.0]
    with pytest.raises(api.MullError, match="has no function"):
        api.sweep(out=tmp_path / "other", grader=f"{grader}:all_rigt", **options)
