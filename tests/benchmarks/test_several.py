"""Several benchmarks as one: ids, prompts and grades of their own, arguments by name."""

import json

import pytest

from mull.benchmarks import load_benchmark
from mull.benchmarks.several import Several, load_benchmarks, names_in, parts_of, token_limits
from mull.errors import MullError


@pytest.fixture
def files(tmp_path):
    """Two files in a user's own format whose questions have the same ids, and one as GSM8K has it."""
    for name in ("one", "two"):
        rows = [{"question": f"{name} {i}?", "answer": f"{i}"} for i in range(3)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = [{"question": f"How many are {i} and 1?", "answer": f"So:\n#### {i + 1}"} for i in range(2)]
    (tmp_path / "gsm.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_questions_keep_apart_and_are_asked_and_graded_by_their_own(files):
    several = load_benchmarks(
        [str(files / "one.jsonl"), str(files / "two.jsonl"), "gsm8k"],
        questions={"one": 2},
        data={"gsm8k": files / "gsm.jsonl"},
        grader={"one": "exact", "two": "integer", "gsm8k": "integer"},
    )
    assert several.name == "one, two, gsm8k"
    ids = [question.id for question in several.questions()]
    assert ids == [
        "one/q-0000", "one/q-0001", "two/q-0000", "two/q-0001", "two/q-0002", "gsm8k/gsm8k-0000", "gsm8k/gsm8k-0001",
    ]  # fmt: skip
    first, second, gsm = (several.questions()[i] for i in (0, 3, 6))
    assert (first.benchmark, second.benchmark, gsm.benchmark) == ("one", "two", "gsm8k")
    assert "two 1?" in several.prompt(second)[0]["content"]
    assert several.prompt(gsm) == load_benchmark("gsm8k", data=files / "gsm.jsonl", grader="integer").prompt(gsm)
    assert several.grade(gsm, "\\boxed{2}").correct and several.grade(second, "it is 1, I say").correct
    assert not several.grade(several.questions()[1], "it is 1, I say").correct, "`exact` takes the whole line"
    assert several.describe()["parts"]["two"]["grader"]["name"] == "integer"


def test_one_is_itself_and_made_ones_can_join(files):
    alone = load_benchmarks(["tiny"], questions=5)
    assert alone.describe() == load_benchmark("tiny", questions=5).describe() and parts_of(alone) == [alone]
    both = load_benchmarks([load_benchmark("tiny", questions=4), "tiny-hard"], questions=3)
    assert [len(part.questions()) for part in parts_of(both)] == [4, 3]
    asked = load_benchmarks(["tiny", "tiny-hard"], questions=2, prompt="Now: {question}", system="Be brief.")
    said = asked.prompt(asked.questions()[-1])
    assert said[0]["content"] == "Be brief." and said[1]["content"].startswith("Now: ")


def test_limits_of_tokens(files):
    both = load_benchmarks(["tiny", str(files / "one.jsonl")], grader={"one": "exact"})
    assert token_limits(both, None) == (32768, {"tiny": 768, "one": 32768})
    assert token_limits(both, 100) == (100, {})
    assert token_limits(both, {"one": 900}) == (900, {"tiny": 768, "one": 900})
    assert token_limits(load_benchmark("tiny"), None) == (768, {})
    assert both.max_tokens == 32768


def test_names_of_a_list_and_a_file_with_a_comma(files, monkeypatch):
    assert names_in("gsm8k, math500") == ["gsm8k", "math500"] and names_in("tiny") == ["tiny"]
    (files / "a,b.jsonl").write_text("{}")
    monkeypatch.chdir(files)
    assert names_in("a,b.jsonl") == ["a,b.jsonl"]
    with pytest.raises(MullError, match="'gsm8k,' is no list of benchmarks"):
        names_in("gsm8k,")


@pytest.mark.parametrize(
    ("names", "arguments", "said"),
    [
        (["tiny", "tiny"], {}, "two benchmarks are called 'tiny'"),
        (["tiny", "tinny"], {}, "unknown benchmark 'tinny'. Did you mean 'tiny'"),
        (["tiny", "tiny-hard"], {"questions": {"tiny-hrad": 3}}, "questions names 'tiny-hrad', .* mean 'tiny-hard'"),
        (["one.jsonl", "deep/one.jsonl"], {"grader": "exact"}, "two benchmarks are called 'one'"),
        (["average.jsonl", "tiny"], {"grader": {"average": "exact"}}, "called 'average'.* Rename its file"),
        ([], {}, "no benchmark is named"),
    ],
)
def test_refusals(files, monkeypatch, names, arguments, said):
    monkeypatch.chdir(files)
    (files / "deep").mkdir()
    for copy in ("deep/one.jsonl", "average.jsonl"):
        (files / copy).write_text((files / "one.jsonl").read_text())
    with pytest.raises(MullError, match=said):
        load_benchmarks(names, **arguments)


def test_one_data_file_for_several_is_refused(files):
    with pytest.raises(MullError, match=r"one data file for several benchmarks. Say whose it is, as in gsm8k="):
        load_benchmarks(["gsm8k", "math500"], data=files / "gsm.jsonl")


def test_seeds_and_ids_come_back(files):
    both = load_benchmarks(["tiny", "tiny-hard"], questions=2)
    assert isinstance(both, Several)
    assert [both.own_id(question.id) for question in both.questions()] == ["report-0-0000", "report-0-0001"] * 2
