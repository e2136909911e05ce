"""Runs that grow, dry runs, JSON, and refusals that come before torch: the commands as a user gives them."""

import inspect
import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from mull.cli.main import GROUPS, VERBS, app, load_verb, summary_of
from mull.runs.store import RunStore
from mull.tiny import checkpoint_folder

PAIR = ["--instruct", str(checkpoint_folder("instruct")), "--thinking", str(checkpoint_folder("thinking"))]
SMALL = ["--questions", "8", "-k", "1", "--max-tokens", "64", "--lambdas", "0,1"]


def mull(*arguments):
    return CliRunner().invoke(app, [str(each) for each in arguments])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grow") / "run"
    assert mull("sweep", *PAIR, *SMALL, "--run", folder).exit_code == 0
    return folder


def python(code, *arguments):
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)


WITHOUT_TORCH = """
import sys
from mull.cli.main import app
try:
    app(sys.argv[1:])
except SystemExit as end:
    print("torch" in sys.modules, end.code, file=sys.stderr)
"""


def test_more_of_everything_is_added_and_nothing_sampled_twice(run, tmp_path):
    grown = tmp_path / "grown"
    first = mull("sweep", *PAIR, *SMALL, "--run", grown)
    assert first.exit_code == 0, first.output
    with RunStore.open(grown) as store:
        before = store.samples()
    more = ["--questions", "9", "-k", "2", "--max-tokens", "64", "--lambdas", "0,0.5,1"]
    planned = mull("sweep", *PAIR, *more, "--run", grown, "--dry-run")
    assert planned.exit_code == 0 and "54 responses, 16 of them on record, 38 to be sampled" in planned.output
    assert "at most" in planned.output and "at the speed of the run so far" in planned.output
    done = mull("sweep", *PAIR, *more, "--run", grown)
    assert done.exit_code == 0 and "going on from 16 of 54 responses" in done.output
    with RunStore.open(grown) as store:
        after = {(s.setting, s.question, s.index): s for s in store.samples()}
        assert len(after) == 54 and list(store.plan["settings"]) == ["0", "1", "0.5"]
    assert all(after[s.setting, s.question, s.index] == s for s in before)
    report = mull("report", grown)
    assert report.exit_code == 0 and "0.5" in report.output


def test_settings_with_less_are_said_to_have_less(run, tmp_path):
    grown = tmp_path / "grown"
    for lambdas, k in (("0,1", "1"), ("0", "2")):
        options = ["--questions", "8", "--max-tokens", "64", "--lambdas", lambdas, "-k", k]
        assert mull("sweep", *PAIR, *options, "--run", grown).exit_code == 0
    found = mull("report", grown).output
    assert "not all settings have the same samples" in found and "8 questions × 2" in found
    assert "not all settings" not in mull("report", run, "--out", tmp_path / "report").output


def test_a_dry_run_of_a_new_run_makes_no_folder(tmp_path):
    done = mull("sweep", *PAIR, *SMALL, "--run", tmp_path / "new", "--dry-run", "--json")
    assert done.exit_code == 0 and not (tmp_path / "new").exists()
    found = json.loads(done.stdout)
    assert found.pop("memory")["device"]
    assert found == {"responses": 16, "missing": 16, "most_tokens": 1024, "tokens": None, "seconds": None}


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        ([], 0, "is complete: 16 responses on record"),
        (["--dry-run"], 0, "0 to be sampled"),
        (["--seed", "1"], 2, "seed: 0 → 1"),
        (["--device", "cuda"], 2, ""),
        (["--layers", "0-99"], 2, "reach beyond the model"),
    ],
)
def test_what_needs_no_torch_does_not_start_it(run, more, code, said):
    done = python(WITHOUT_TORCH, "sweep", *PAIR, *SMALL, "--run", run, *more)
    assert said in done.stdout + done.stderr
    started, ended = done.stderr.splitlines()[-1].split()
    assert ended == str(code)
    assert started == str("cuda" in more), "a GPU asked for by name is looked for"


def test_a_run_folder_that_is_a_file_is_refused_without_torch(tmp_path):
    (tmp_path / "file").write_text("")
    done = python(WITHOUT_TORCH, "ablate", "layers", *PAIR, "--run", tmp_path / "file")
    assert "is a file" in done.stderr and done.stderr.splitlines()[-1] == "False 2"


def test_prompts_and_limits_are_refused_before_the_weights_are_loaded(tmp_path, monkeypatch):
    from mull.engines.local import engine

    monkeypatch.setattr(engine, "InterpolatedModel", None)  # whoever loads weights fails otherwise
    done = mull("sweep", *PAIR, "--questions", "8", "--max-tokens", "5000", "--run", tmp_path / "run")
    assert done.exit_code == 2 and "--max-tokens 5000 does not fit" in done.output
    assert not (tmp_path / "run").exists()


def test_where_nothing_can_be_written_nothing_is_drawn(run, tmp_path):
    (tmp_path / "file").write_text("")
    for command in (("report", run, "--out"), ("report", run, "--parquet"), ("inspect", PAIR[1], PAIR[3], "--png")):
        done = mull(*command, tmp_path / "file" / "result")
        assert done.exit_code == 2 and "is not a folder" in done.output
        assert done.stdout == "", "nothing was computed and shown before"


def test_reports_as_json(run, tmp_path):
    done = mull("report", run, "--out", tmp_path / "report", "--json")
    found = json.loads(done.stdout)
    assert (found["responses"], found["planned"]) == (16, 16)
    assert [each["setting"] for each in found["settings"]] == ["0", "1"]
    assert found["settings"][0]["mean_at_k"].keys() == {"value", "error"}
    assert str(tmp_path / "report" / "report.html") in found["files"]
    again = json.loads(mull("sweep", *PAIR, *SMALL, "--run", run, "--json").stdout)
    assert again["settings"] == found["settings"]


def test_studies_as_json(tmp_path):
    study = ["--questions", "4", "-k", "1", "--max-tokens", "64", "--run", tmp_path / "run", "--json"]
    found = json.loads(mull("ablate", "layers", *PAIR, *study).stdout)
    assert found["reference"] == "all layers" and len(found["differences"]) == len(found["settings"]) - 1
    with RunStore.open(tmp_path / "run") as store:
        assert store.plan["study"] == "layers"


def test_samples_know_the_tokens_of_prompt_and_thought(run):
    with RunStore.open(run) as store:
        for sample in store.samples():
            assert sample.prompt_tokens > 20
            assert sample.thought_tokens == (sample.tokens if sample.lam == 1 else 0), "all are cut off at 64 tokens"


def test_verbs_are_listed_without_being_imported():
    code = "import sys; from mull.cli.main import app\ntry: app(['--help'])\n"
    code += "except SystemExit: print([m for m in sys.modules if m.startswith('mull.cli.verbs.')])"
    done = python(code)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
    for names in VERBS.values():
        for name in names:
            group, _, verb = name.rpartition(" ")
            assert (group or verb) in done.stdout
            assert not group or GROUPS[group].split(":")[0] in done.stdout
            assert summary_of(name) == inspect.getdoc(load_verb(name))


def test_options_stand_in_panels():
    shown = mull("sweep", "--help").output
    for panel in ("Checkpoints", "Questions", "Sampling", "Computing", "Responses from servers"):
        assert panel in shown


def test_a_run_keeps_its_prompt(tmp_path):
    """Prompt and system message belong to the plan: the same go on, others are refused, and nothing is sampled."""
    prompt, run = tmp_path / "prompt.txt", tmp_path / "run"
    prompt.write_text("Compute. {question}\n")
    own = ["--prompt", prompt, "--system", "Be brief."]
    small = ["--questions", "2", "-k", "1", "--max-tokens", "8", "--lambdas", "0"]
    first = mull("sweep", *PAIR, *small, *own, "--run", run)
    assert first.exit_code == 0, first.output
    with RunStore.open(run) as store:
        record = store.plan["benchmark"]
        assert (record["prompt"], record["system"]) == ("Compute. {question}", "Be brief.")
    assert "is complete" in mull("sweep", *PAIR, *small, *own, "--run", run).stderr
    prompt.write_text("Please compute. {question}\n")
    for options, said in (
        (own, "benchmark.prompt: Compute. {question} → Please compute. {question}"),
        ([], "benchmark.system: Be brief. → None"),
    ):
        again = mull("sweep", *PAIR, *small, *options, "--run", run)
        assert again.exit_code == 2 and said in " ".join(again.stderr.split())
