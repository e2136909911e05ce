"""Several benchmarks in one run: sampled, continued, reported, exported, chosen from and graded again."""

import json
import sqlite3

import polars
import pytest

import mull as api
from mull.runs.store import RunStore
from mull.tiny import checkpoint_folder

from ...running import mull

ENDS = ["--instruct", str(checkpoint_folder("instruct")), "--thinking", str(checkpoint_folder("thinking"))]
LAMS = ["--lambdas", "0,0.5,1", "-k", "2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With questions in the format of GSM8K."""
    folder = tmp_path_factory.mktemp("several")
    rows = [{"question": f"What is {a} + {b}?", "answer": f"Add them.\n#### {a + b}"} for a, b in ((11, 12), (40, 5))]
    (folder / "gsm.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def both(folder):
    """The options of the two benchmarks: one makes its questions, one has a file and a grader of mull."""
    names = ["--benchmark", "tiny,gsm8k", "--data", f"gsm8k={folder / 'gsm.jsonl'}", "--grader", "gsm8k=integer"]
    return ["sweep", *ENDS, *names, *LAMS, "--max-tokens", "tiny=150,gsm8k=60"]


@pytest.fixture(scope="module")
def run(folder, both):
    done = mull(*both, "--questions", "tiny=6", "--run", folder / "run")
    assert done.returncode == 0, done.stderr
    assert "average of 2 benchmarks" in done.stdout and "gsm8k · 2 questions" in done.stdout
    return folder / "run"


def rows(run, what='question, benchmark, setting, "index", seed, text, correct'):
    with sqlite3.connect(run / "run.sqlite") as connection:
        return connection.execute(f'SELECT {what} FROM samples ORDER BY setting, question, "index"').fetchall()


def test_the_samples_of_each_are_those_of_a_run_of_it_alone(folder, run):
    alone = folder / "alone"
    done = mull("sweep", *ENDS, *LAMS, "--benchmark", "tiny", "--questions", "6", "--max-tokens", "150", "--run", alone)
    assert done.returncode == 0, done.stderr
    own = [(question.removeprefix("tiny/"), *rest) for question, *rest in rows(run) if question.startswith("tiny/")]
    assert own == rows(alone)
    assert {benchmark for _, benchmark, *_ in rows(run)} == {"tiny", "gsm8k"}
    tokens = rows(run, "benchmark, tokens")
    most = {name: max(count for own, count in tokens if own == name) for name in ("tiny", "gsm8k")}
    assert most["gsm8k"] <= 60 < most["tiny"] <= 150


def test_the_plan_has_each_and_one_benchmark_is_recorded_as_before(run):
    with RunStore.open(run) as store:
        plan, questions = store.plan, store.questions
    assert plan["benchmark"]["name"] == "tiny, gsm8k" and list(plan["benchmark"]["parts"]) == ["tiny", "gsm8k"]
    assert plan["limits"] == {"tiny": 150, "gsm8k": 60} and plan["sampling"]["max_tokens"] == 150
    assert questions["gsm8k/gsm8k-0001"]["benchmark"] == "gsm8k"


def test_it_grows_by_questions_and_goes_on_with_nothing_else(folder, run, both):
    before = rows(run)
    done = mull(*both, "--questions", "tiny=8", "--run", run, "--dry-run", "--json")
    found = json.loads(done.stdout)
    assert (found["responses"], found["missing"]) == (60, 12) and found["most_tokens"] == 12 * 150
    done = mull(*both, "--questions", "tiny=8", "--run", run)
    assert done.returncode == 0 and len(rows(run)) == 60 and set(before) < set(rows(run))
    done = mull(*both, "--questions", "tiny=6", "--run", run)  # fewer: the run keeps what it has
    assert done.returncode == 0 and "complete" in done.stderr
    done = mull(*both[:-1], "tiny=150,gsm8k=50", "--questions", "tiny=8", "--run", run)
    assert done.returncode == 2 and "limits.gsm8k: 60 → 50" in done.stderr
    done = mull("sweep", *ENDS, *LAMS, "--benchmark", "tiny", "--questions", "6", "--run", run)
    assert done.returncode == 2 and "benchmark.name: tiny, gsm8k → tiny" in done.stderr


def test_report_and_status_and_export_have_each_and_the_average(run):
    done = mull("report", run, "--json")
    found = json.loads(done.stdout)
    average = {each["setting"]: each["mean_at_k"]["value"] for each in found["settings"]}
    each = {
        name: {m["setting"]: m["mean_at_k"]["value"] for m in own["settings"]}
        for name, own in found["benchmarks"].items()
    }
    assert list(each) == ["gsm8k", "tiny"] and "words" in found["benchmarks"]["tiny"] and "stages" in found
    for setting, value in average.items():
        assert value == pytest.approx((each["gsm8k"][setting] + each["tiny"][setting]) / 2)
    page = (run / "report" / "report.html").read_text()
    assert 'id="tiny-difficulty"' in page and "gsm8k: Accuracy over tokens" in page and "average of 2 bench" in page
    table = polars.read_csv(run / "report" / "metrics.csv")
    assert table["benchmark"].unique().sort().to_list() == ["average", "gsm8k", "tiny"]
    assert mull("stages", run / "report" / "metrics.csv").returncode == 0
    assert (run / "report" / "figures" / "tiny-strata.svg").exists()
    status = mull("status", run).stdout
    assert "tiny, gsm8k: " in status and "  gsm8k: 2 questions, 12 of 12 on record" in status
    done = mull("export", run, "--format", "csv")
    assert done.returncode == 0, done.stderr
    assert {"metrics.csv", "contrasts.csv", "contrasts-gsm8k.csv", "strata-tiny.csv", "cost-tiny.csv"} <= {
        path.name for path in (run / "tables").iterdir()
    }


def test_choose_by_weights(run):
    done = mull("choose", run, "--budget", "100", "--weights", "tiny=3", "--json")
    found = json.loads(done.stdout)
    assert found["weights"] == {"gsm8k": 0.25, "tiny": 0.75}
    shown = mull("choose", run, "--budget", "100").stdout
    assert "accuracy and tokens are means over gsm8k (50 %) and tiny (50 %)" in " ".join(shown.split())
    for weights, said in (
        ("tinny=3", "a weight is given for 'tinny', which is no benchmark of the samples. Did you mean 'tiny'?"),
        ("tiny=0", "the weight of tiny must be positive and finite, got 0"),
        ("tiny", "cannot read --weights 'tiny'. Write NAME=VALUE"),
        ("tiny=x", "--weights 'x' is no number"),
    ):
        done = mull("choose", run, "--budget", "100", "--weights", weights)
        assert done.returncode == 2 and said in done.stderr, done.stderr


def test_regrade_uses_the_grader_of_each(run):
    done = mull("regrade", run)
    assert done.returncode == 0 and "no response became right or wrong" in done.stdout, done.stderr
    name = next(line.removeprefix("grading: ") for line in done.stdout.splitlines() if line.startswith("grading: "))
    assert mull("report", run, "--grading", name).returncode == 0
    done = mull("regrade", run, "--data", "other.jsonl")
    assert done.returncode == 2 and "holds several benchmarks: tiny, gsm8k. Leave --data out" in done.stderr


def test_a_grader_of_ones_own_for_one_of_them(folder, run, tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text("def never(answer, gold):\n    return False\n\ndef always(answer, gold):\n    return True\n")
    done = mull("regrade", run, "--grader", f"gsm8k={mine}:never")
    assert done.returncode == 0, done.stderr
    name = next(line.removeprefix("grading: ") for line in done.stdout.splitlines() if line.startswith("grading: "))
    assert name.startswith("tiny+mine.never-") and list(run.glob("graders/*/mine.py"))
    with RunStore.open(run) as store, RunStore.open(run, grading=name) as again:
        for one, other in zip(store.samples(), again.samples(), strict=True):
            assert other.correct == (one.correct and one.benchmark == "tiny")
    names = ["--benchmark", "tiny,gsm8k", "--data", f"gsm8k={folder / 'gsm.jsonl'}", "--questions", "1"]
    sweep = ["sweep", *ENDS, *names, "--lambdas", "0", "-k", "1", "--max-tokens", "60", "--run", tmp_path / "own"]
    assert mull(*sweep, "--grader", f"gsm8k={mine}:always").returncode == 0
    correct = dict(rows(tmp_path / "own", "benchmark, correct"))
    assert correct["gsm8k"] == 1 and len(list((tmp_path / "own").glob("graders/*/mine.py"))) == 1
    done = mull("regrade", tmp_path / "own")
    assert done.returncode == 2 and "graded by a function of its user's own, mine.py:always" in done.stderr
    done = mull("regrade", run, "--grader", "gsm=integer")
    assert done.returncode == 2 and "grader names 'gsm', which is no benchmark of this run" in done.stderr


def test_estimates_say_each(run, both):
    done = mull(*both, "--questions", "tiny=9", "-k", "3", "--run", run, "--dry-run")
    assert done.returncode == 0 and "  gsm8k: 6 to be sampled, " in done.stdout and "  tiny: " in done.stdout, (
        done.stdout
    )
    machine = ("--model", "Qwen3-4B", "-k", "2", "--questions", "10", "--json")
    together = json.loads(mull("plan", *machine, "--benchmark", "aime25,math500").stdout)["sweep"]["all"]
    apart = [
        json.loads(mull("plan", *machine, "--benchmark", name).stdout)["sweep"]["all"] for name in ("aime25", "math500")
    ]
    assert together["responses"] == sum(each["responses"] for each in apart)
    assert together["tokens"] == pytest.approx(sum(each["tokens"] for each in apart))
    done = mull("plan", *machine, "--benchmark", "aime25,aime25")
    assert done.returncode == 2 and "names one twice" in done.stderr


@pytest.mark.parametrize("setting", ["0.5", "any"])
def test_an_unfinished_run_has_no_average_where_a_benchmark_lacks(run, tmp_path, setting):
    with sqlite3.connect(run / "run.sqlite") as old, sqlite3.connect(tmp_path / "run.sqlite") as new:
        old.backup(new)
        new.execute(f"DELETE FROM samples WHERE benchmark = 'gsm8k' AND '{setting}' IN (setting, 'any')")
    verbs = (["report", tmp_path], ["choose", tmp_path, "--budget", "200"], ["export", tmp_path, "--format", "csv"])
    for words in verbs:
        done = mull(*words)
        if setting == "any":
            said = "has responses to each of tiny, gsm8k yet. Let the sweep go on"
            assert done.returncode == 2 and said in done.stderr, done.stderr
        else:
            assert done.returncode == 0, done.stderr
    if setting == "0.5":
        assert "left out: 0.5" in mull(*verbs[1]).stderr
        table = polars.read_csv(tmp_path / "report" / "metrics.csv")
        assert table.filter(benchmark="average")["setting"].to_list() == [0, 1]
        assert table.filter(benchmark="tiny")["setting"].to_list() == [0, 0.5, 1]


def test_what_wants_one_benchmark_says_so(folder, run):
    for words in (("paper", run), ("route", "eval", "--replay", run, "-o", folder / "replayed")):
        done = mull(*words)
        assert done.returncode == 2 and f"{run} holds several benchmarks (tiny, gsm8k)" in done.stderr, done.stderr


def test_a_study_file_and_other_studies(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "study.toml").write_text(
        'benchmark = ["tiny-easy", "gsm8k"]\ndata = { gsm8k = "gsm.jsonl" }\ngrader = { gsm8k = "integer" }\n'
        "questions = { tiny-easy = 3, gsm8k = 1 }\nmax-tokens = 40\nk = 1\n"
    )
    done = mull("ablate", "modules", *ENDS, "--config", "study.toml", "--run", "modules")
    assert done.returncode == 0, done.stderr
    assert "average of 2 benchmarks" in done.stdout
    assert {benchmark for (benchmark,) in rows(folder / "modules", "benchmark")} == {"tiny-easy", "gsm8k"}
    with RunStore.open(folder / "modules") as store:
        assert "limits" not in store.plan and len(store.questions) == 4


def test_a_race_and_the_python_face(folder):
    options = {"benchmark": ["tiny-easy", "tiny-hard"], "k": 1, "max_tokens": 80, "quiet": True}
    choice = api.choose(
        budget=60, lambdas=[0, 0.5], questions=8, weights={"tiny-easy": 3}, out=folder / "race", **options
    )
    assert dict(choice.found.shares) == {"tiny-easy": 0.75, "tiny-hard": 0.25}
    run = api.sweep(lambdas=[0, 0.5], questions={"tiny-easy": 6, "tiny-hard": 7}, out=folder / "face", **options)
    assert run.metrics.group_by("benchmark").len().sort("benchmark")["len"].to_list() == [2, 2, 2]
    assert set(run.frontier["benchmark"]) == {"average"}
    assert list(run.results.parts) == ["tiny-easy", "tiny-hard"] and len(run.results.questions) == 13
    assert run.choose(budget=100, weights={"tiny-hard": 2}).lam in (0, 0.5)
    assert "average of 2 benchmarks" in repr(run) and "average of 2 benchmarks" in run._repr_html_()
    assert run.report(folder / "page").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--benchmark", "tiny,tiny"], "two benchmarks are called 'tiny'. Name each once"),
        (["--benchmark", "tiny,mth500"], "unknown benchmark 'mth500'. Did you mean 'math500'?"),
        (["--benchmark", "tiny,,gsm8k"], "'tiny,,gsm8k' is no list of benchmarks"),
        (
            ["--benchmark", "tiny,tiny-hard", "--questions", "tiny=3,hard=2"],
            "questions names 'hard', which is no",
        ),
        (["--benchmark", "tiny,tiny-hard", "--questions", "tiny=3,tiny=4"], "--questions names 'tiny' twice"),
        (["--benchmark", "tiny,tiny-hard", "--questions", "tiny=0"], "--questions '0' is no number from 1"),
        (["--benchmark", "tiny,tiny-hard", "--max-tokens", "tiny="], "cannot read --max-tokens 'tiny='"),
        (["--benchmark", "tiny", "--questions", "tiny=3"], "--questions 'tiny=3' is no number from 1"),
        (["--benchmark", "gsm8k,tiny", "--data", "x.jsonl"], "one data file for several benchmarks. Say whose it is"),
    ],
)
def test_what_was_wrong_is_one_line(tmp_path, arguments, said):
    done = mull("sweep", *ENDS, *arguments, "--run", tmp_path / "run")
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert sum(line.startswith("mull: ") for line in done.stderr.splitlines()) == 1 and not (tmp_path / "run").exists()
