"""`mull route train`: summary, JSON, refusals."""

from __future__ import annotations

import json
import math

import pytest

from mull.dynamic.head import Head
from mull.tiny import checkpoint_folder

from ...dynamic.conftest import one_process, small, small_run
from ...dynamic.training.test_records import write_run
from ...running import mull

__all__ = ["one_process", "small", "small_run"]
pytestmark = pytest.mark.usefixtures("one_process")


@pytest.fixture(scope="module")
def trained(small_run, tmp_path_factory):
    path = tmp_path_factory.mktemp("train") / "new" / "head.safetensors"
    return path, mull("route", "train", small_run, "-o", path)


def test_the_summary_says_how_it_did_and_what_comes_next(trained):
    path, done = trained
    assert done.returncode == 0, done.stderr
    head = Head.open(path)
    report = head.report
    assert f"trained on {50 - report['held_out']} questions with 2 samples at each of 3 λ" in done.stdout
    for text in ("pref: log loss", "chance 0.693", "router: Thinking is needed for", "rank correlation", "Reliability"):
        assert text in done.stdout or text == "Reliability"
    for stratum in ("easy", "medium", "hard"):
        assert stratum in done.stdout
    assert f"mull route eval --head {path}" in done.stdout
    assert len(head.seen) == 50 and head.form.type == "boxed"


def test_json_is_one_object_and_the_same_run_gives_the_same_bytes(trained, small_run, tmp_path):
    path, _ = trained
    done = mull("route", "train", small_run, "-o", tmp_path / "head", "--json")
    found = json.loads(done.stdout)
    assert found["file"] == str(tmp_path / "head") and found["digest"] == Head.open(path).digest
    assert {"pref", "router", "length", "strata", "questions", "held_out"} <= set(found)
    assert (tmp_path / "head").read_bytes() == path.read_bytes()
    losses = found["pref"]["log_loss"], found["pref"]["log_loss_of_chance"]
    assert losses[0] is None or math.isfinite(losses[0])


def refused(*arguments):
    done = mull("route", "train", *arguments)
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return " ".join(done.stderr.split())


def test_wrong_inputs_are_one_line(small_run, tmp_path):
    servers = write_run(tmp_path / "servers", sources={"models": {}})
    ends = write_run(tmp_path / "ends", lams=(0.0, 1.0))
    few = write_run(tmp_path / "few", questions=12)
    other = write_run(tmp_path / "other")
    out = ("-o", tmp_path / "head")
    for arguments, said in (
        ((tmp_path / "absent", *out), "holds no run"),
        ((servers, *out), "was answered by servers"),
        ((ends, *out), "have in common: 0, 1"),
        ((few, *out), "12 questions with samples at all 3 λ"),
        ((small_run, other, *out), "another pair"),
        ((other, *out), "was sampled with another Instruct than"),
        ((small_run, "--instruct", checkpoint_folder("instruct"), *out), "neither for the built-in pair"),
        ((small_run, "-o", tmp_path), "is a folder"),
        ((small_run, "-o", few / "run.sqlite" / "head"), "is not a folder"),
        ((small_run, "-o", "/proc/absent/head"), "/proc/absent"),
    ):
        assert said in refused(*arguments)
    for option in ("--epsilon", "--delta"):
        for value in ("nan", "2", "-0.1", "x"):
            assert "Invalid value" in refused(small_run, option, value, *out)
    assert "Missing argument" in refused()
    assert not (tmp_path / "head").exists()


def test_a_hostile_run_prints_no_commands_for_the_terminal(tmp_path):
    from mull.checkpoints.fingerprint import fingerprint
    from mull.checkpoints.pair import Pair

    pair = Pair.open(str(checkpoint_folder("instruct")), str(checkpoint_folder("thinking")))
    sources = {"instruct": fingerprint(pair.instruct), "thinking": fingerprint(pair.thinking), "donor": "thinking"}
    run = write_run(tmp_path / "run", sources=sources, stratum="[red]\x1b[2J</b>")
    done = mull("route", "train", run, "-o", tmp_path / "head")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout + done.stderr and "[red]" in done.stdout
