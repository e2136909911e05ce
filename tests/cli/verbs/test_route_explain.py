"""`mull route explain`: the choice, the responses, JSON, refusals."""

from __future__ import annotations

import json

import pytest

from mull.dynamic.head import Head

from ...dynamic.conftest import head_file, one_process, small
from ...running import mull

__all__ = ["head_file", "one_process", "small"]
pytestmark = pytest.mark.usefixtures("one_process")
QUESTION = "Start at 22, then -0 +0 *1 -0 -6. Keep the last two digits."
SHORT = ("--max-tokens", 40)


def test_without_options_the_built_in_pair_answers_at_three_lambdas():
    done = mull("route", "explain", QUESTION, *SHORT)
    assert done.returncode == 0, done.stderr
    assert "λ(q) = " in done.stdout and " by conf" in done.stdout
    assert "nats unsure" in done.stdout and "choosing took 1 generated token and" in done.stdout
    assert "λ = 0" in done.stdout and "λ = 1" in done.stdout and "(chosen)" in done.stdout
    assert "(cut off)" in done.stdout and "(no answer)" in done.stdout


def test_json_with_a_head(head_file):
    head = Head.open(head_file)
    for name in ("conf", "pref", "length", "router"):
        done = mull("route", "explain", QUESTION, *SHORT, "--head", head_file, "--estimator", name, "--json")
        found = json.loads(done.stdout)
        lam = found["choice"]["lam"]
        assert found["estimator"] == name and 0 <= lam <= 1
        assert [each["lam"] for each in found["answers"]] == sorted({0.0, lam, 1.0})
        assert found["choice"]["why"] and set(found["choice"]["cost"]) == {"generated", "prefilled"}
        if name != "conf":
            assert found["record"]["head"] == head.digest
        for answer in found["answers"]:
            assert 0 < answer["tokens"] <= 40 and 0 <= answer["thought_tokens"] <= answer["tokens"]
            assert answer["kind"] == "none" or answer["thought"]
    direct = found["answers"][0]
    assert "\\boxed{16}" in direct["answer"] and direct["finish"] == "stop"


def test_a_system_prompt_and_an_answer_form_change_what_is_asked():
    plain = json.loads(mull("route", "explain", QUESTION, *SHORT, "--json").stdout)
    boxed = json.loads(mull("route", "explain", QUESTION, *SHORT, "--answer", "boxed", "--json").stdout)
    assert boxed["choice"]["cost"]["generated"] > 1 == plain["choice"]["cost"]["generated"]
    assert "sure" in boxed["choice"]["why"] and "nats" not in boxed["choice"]["why"]
    told = json.loads(mull("route", "explain", QUESTION, *SHORT, "--system", "Be brief.", "--json").stdout)
    assert told["choice"]["cost"]["prefilled"] > plain["choice"]["cost"]["prefilled"]


def test_hostile_text_cannot_command_the_terminal():
    done = mull("route", "explain", "[bold]\x1b[2J[/nonsense] {", *SHORT)
    assert done.returncode == 0 and "\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((" \n",), "the question is empty"),
        (("",), "is empty"),
        ((), "Missing argument"),
        ((QUESTION, "--estimator", "pref"), "without --head there is conf alone"),
        ((QUESTION, "--answer", "leter"), "did you mean 'letter'?"),
        ((QUESTION, "--head", "absent.safetensors"), "cannot read the head"),
        ((QUESTION, "--temperature", "inf"), "--temperature"),
        ((QUESTION, "--temperature", "nan"), "--temperature"),
        ((QUESTION, "--max-tokens", 0), "Invalid value"),
        ((QUESTION, "--thinking", "x"), "neither for the built-in pair"),
        ((QUESTION * 3000,), "context"),
    ],
)
def test_wrong_inputs_are_one_line(arguments, said):
    done = mull("route", "explain", *arguments)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert said.lower() in " ".join(done.stderr.split()).lower()


def test_a_head_of_another_pair_or_an_unknown_estimator_is_refused(head_file, two_sides):
    instruct, thinking = two_sides()
    done = mull("route", "explain", QUESTION, "--head", head_file, "--instruct", instruct, "--thinking", thinking)
    assert done.returncode == 2 and "trained on another Instruct" in done.stderr
    done = mull("route", "explain", QUESTION, "--head", head_file, "--estimator", "perf")
    assert done.returncode == 2 and "Did you mean 'pref'?" in done.stderr
