"""`mull route eval`: the table, JSON, files, resuming, refusals; and the group `mull route` itself."""

from __future__ import annotations

import csv
import json

import pytest

from mull.runs.store import RunStore

from ...dynamic.conftest import head_file, one_process, small
from ...running import mull

__all__ = ["head_file", "one_process", "small"]
pytestmark = pytest.mark.usefixtures("one_process")
SMALL = ("--questions", 10, "--question-seed", 3, "-k", 1, "--lambdas", "0,0.5,1", "--max-tokens", 24)
CONTROLS = ("--estimators", "conf,pref", "--budgets", "5", "--exit-every", 8, "--brief")
POLICIES = ["0", "0.5", "1", "conf", "pref", "random as conf", "random as pref", "oracle", "Thinking, budget 5"]
POLICIES += ["be brief", "early exit"]


@pytest.fixture(scope="module")
def done(head_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("route") / "out"
    return folder, mull("route", "eval", "--head", head_file, *SMALL, *CONTROLS, "-o", folder)


def test_the_table_names_every_policy_and_the_words_follow(done):
    folder, found = done
    assert found.returncode == 0, found.stderr
    for label in POLICIES:
        shown = label.removesuffix(" budget 5")  # on two lines
        assert any(line.startswith(shown + " ") for line in found.stdout.splitlines()), label
    assert "10 questions; ± one standard error" in found.stdout
    # Responses of so few tokens are all wrong, and the words claim nothing.
    assert "this says nothing about λ per query" in " ".join(found.stdout.split())
    assert str(folder / "route.html") in found.stdout
    with RunStore.open(folder / "tiny") as store:
        assert store.count() == 10 * len(POLICIES)


def test_the_files(done):
    folder, _ = done
    rows = list(csv.DictReader((folder / "tables" / "routes-tiny.csv").open()))
    assert [row["policy"] for row in rows] == POLICIES
    assert (folder / "tables" / "routes-tiny.tex").read_text().count("\\\\") > len(POLICIES)
    figures = {path.name for path in (folder / "figures").iterdir()}
    assert {f"{n}.{e}" for n in ("routes-tiny", "lambda-conf", "lambda-pref") for e in ("svg", "png")} == figures


def test_json_has_the_numbers_of_the_csv_and_nothing_is_sampled_again(done, head_file):
    folder, _ = done
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.html")}
    again = mull("route", "eval", "--head", head_file, *SMALL, *CONTROLS, "-o", folder, "--json", "--no-report")
    table = json.loads(again.stdout)["tiny"]
    assert [row["label"] for row in table["rows"]] == POLICIES and table["questions"] == 10
    assert before == {path: path.stat().st_mtime_ns for path in folder.glob("*.html")}
    written = {row["policy"]: row for row in csv.DictReader((folder / "tables" / "routes-tiny.csv").open())}
    for row in table["rows"]:
        assert float(written[row["label"]]["accuracy"]) == pytest.approx(row["accuracy"])
        assert float(written[row["label"]]["tokens"]) == pytest.approx(row["tokens"])


def test_prompt_tokens_can_be_charged_afterwards(done, head_file):
    folder, _ = done
    options = ("--prefill-weight", 0.5, "--json", "--no-report")
    charged = json.loads(mull("route", "eval", "--head", head_file, *SMALL, *CONTROLS, "-o", folder, *options).stdout)
    plain = json.loads(mull("route", "eval", "--head", head_file, *SMALL, *CONTROLS, "-o", folder, *options[2:]).stdout)
    for a, b in zip(charged["tiny"]["rows"], plain["tiny"]["rows"], strict=True):
        assert a["tokens"] == pytest.approx(b["tokens"] + 0.5 * b["prefilled"])


def test_two_benchmarks_have_an_average(tmp_path):
    short = ("--questions", 2, "-k", 1, "--lambdas", "0,1", "--max-tokens", 8)
    done = mull("route", "eval", "--benchmark", "tiny-easy, tiny-hard", *short, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    for name in ("average", "tiny-easy", "tiny-hard"):
        assert (tmp_path / "out" / "tables" / f"routes-{name}.csv").is_file()
    assert (tmp_path / "out" / "tiny-hard" / "run.sqlite").is_file()


def test_files_of_named_benchmarks(tmp_path):
    """The path of the paper's benchmarks, with a small file in the form of each one's own."""
    gsm, aime = tmp_path / "gsm.jsonl", tmp_path / "aime.jsonl"
    gsm.write_text("\n".join(json.dumps({"question": f"{i} + 1?", "answer": f"so\n#### {i + 1}"}) for i in range(3)))
    aime.write_text("\n".join(json.dumps({"problem": f"{i} + 2?", "answer": str(i + 2)}) for i in range(3)))
    short = ("-k", 1, "--lambdas", "0,1", "--max-tokens", 8, "--no-report", "--json")
    out = ("-o", tmp_path / "out")
    done = mull("route", "eval", "--benchmark", "gsm8k,aime24", "--data", gsm, "--data", aime, *short, *out)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) == {"average", "gsm8k", "aime24", "sensitivity"}


def refused(*arguments):
    done = mull("route", "eval", *arguments)
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return " ".join(done.stderr.split())


def test_wrong_inputs_are_one_line(head_file, done, tmp_path):
    damaged = tmp_path / "damaged"
    damaged.write_bytes(head_file.read_bytes()[:-5])
    two = ("--questions", 2, "-o", tmp_path / "out")
    for arguments, said in (
        (("--estimators", "pref"), "without --head there is conf alone"),
        (("--head", head_file, "--estimators", "perf"), "did you mean 'pref'?"),
        (("--estimators", "conf,conf"), "called 'conf'"),
        (("--estimators", ""), "no estimator ''"),
        (("--lambdas", "0,0.5"), "lack an end"),
        (("--lambdas", "0.5,1"), "lack an end"),
        (("--lambdas", "0,1.5,1"), "[0, 1]"),
        (("--benchmark", "tiny,tiny"), "name each once"),
        (("--benchmark", ","), "is no list of benchmarks"),
        (("--benchmark", "tinny"), "'tiny'"),
        (("--data", "a", "--data", "b"), "2 files for 1 benchmark."),
        (("--budgets", "5,5"), "--budgets"),
        (("--temperature", "nan"), "--temperature"),
        (("--temperature", "inf"), "--temperature"),
        (("--head", damaged), "damaged"),
        (("--head", tmp_path / "absent"), "cannot read the head"),
        (("--head", head_file, "--questions", 50, "--question-seed", 5), "has not seen 0"),
        (("--head", head_file, "--questions", 9), "an evaluation needs 10"),
        (("--questions", 1), "one question"),
        (("--instruct", "x"), "neither for the built-in pair"),
        ((*two[:2], "-o", head_file), str(head_file)),
        ((*two[:2], "-o", "/proc/absent"), "/proc/absent"),
        (("--questions", 10, "--question-seed", 4, "--lambdas", "0,1", "-o", done[0]), "another plan"),
        (("--exit-every", 0), "Invalid value"),
        (("--exit-at", "nan"), "Invalid value"),
        (("--prefill-weight", "nan"), "Invalid value"),
        (("-k", 0), "Invalid value"),
    ):
        assert said.lower() in refused(*arguments).lower(), arguments


def test_a_head_of_another_pair_is_refused(head_file, tmp_path, two_sides):
    instruct, thinking = two_sides()
    said = refused("--head", head_file, "--instruct", instruct, "--thinking", thinking, *SMALL, "-o", tmp_path / "out")
    assert "trained on another Instruct" in said


def test_the_group_has_help_and_hints():
    alone = mull("route")
    assert all(verb in alone.stdout for verb in ("train", "eval", "explain"))
    assert mull("route", "--help").returncode == 0
    for words, hint in (
        (("rout",), "'route'"),
        (("route", "trian"), "'train'"),
        (("route", "explian", "2"), "'explain'"),
    ):
        found = mull(*words)
        assert found.returncode == 2 and f"Did you mean {hint}?" in " ".join(found.stderr.split())
