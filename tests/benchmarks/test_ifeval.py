"""IFEval by lm-eval's checker: the four accuracies, seeds, and what is said without NLTK's sentence model."""

import json
import os
from pathlib import Path

import pytest

from mull.benchmarks import Question, load_benchmark
from mull.benchmarks.graders.ifeval_grader import IFEvalGrader
from mull.errors import MullError

pytest.importorskip("lm_eval", reason="needs the extra bench")

DATA = os.environ.get("MULL_DATA", "")


def item(key, *instructions):
    names, kwargs = zip(*instructions, strict=True)
    return {"key": key, "prompt": "Write.", "instruction_id_list": list(names), "kwargs": list(kwargs)}


def question(*instructions, key=1):
    row = item(key, *instructions)
    return Question(id="q", text=row.pop("prompt"), gold=json.dumps(row))


@pytest.fixture(scope="module")
def grader():
    patch = pytest.MonkeyPatch()
    if DATA and not os.environ.get("NLTK_DATA"):
        patch.setenv("NLTK_DATA", str(Path(DATA) / "nltk_data"))
    try:
        yield IFEvalGrader()
    except MullError as error:
        pytest.skip(str(error))
    finally:
        patch.undo()


COMMA = ("punctuation:no_comma", {})
LOWER = ("change_case:english_lowercase", {})
TITLE = ("detectable_format:title", {})


@pytest.mark.parametrize(
    ("response", "strict", "scores"),
    [
        ("this is written in small letters without any such mark", True, (1, 2, 2, 2)),
        ("this is written in small letters, with such a mark", False, (0, 2, 1, 1)),
        ("Sure, here it is:\nthis is written in small letters without any such mark", False, (1, 2, 0, 2)),
        ("", False, (0, 2, 0, 0)),
    ],
)
def test_strict_and_loose_by_prompt_and_by_instruction(grader, response, strict, scores):
    grade = grader.grade(question(COMMA, LOWER), response)
    names = ("prompt_loose", "instructions", "followed", "followed_loose")
    assert (grade.correct, dict(grade.scores)) == (strict, dict(zip(names, scores, strict=True)))
    assert grade.answer == f"{scores[2]} of 2 instructions"


def test_draws_depend_on_the_item_alone(grader):
    """An instruction without its argument draws one: the same for the same key, whatever came before."""
    bullets = ("detectable_format:number_bullet_lists", {})
    asked = [question(bullets, key=key) for key in range(40)]
    first = [grader.grade(each, "* one\n* two").correct for each in asked]
    again = [grader.grade(each, "* one\n* two").correct for each in reversed(asked)]
    assert first == again[::-1] and len(set(first)) == 2


def test_a_file_of_ifeval(grader, tmp_path):
    rows = [item(7, COMMA, TITLE), item(9, ("length_constraints:number_words", {"num_words": 3, "relation": None}))]
    path = tmp_path / "ifeval.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    patch = pytest.MonkeyPatch()
    patch.setattr("mull.benchmarks.graders.GRADERS", {"ifeval": lambda: grader})
    asked = load_benchmark("ifeval", data=path)
    patch.undo()
    first, second = asked.questions()
    assert first.id == "ifeval-7" and asked.prompt(first) == [{"role": "user", "content": "Write."}]
    assert asked.grade(first, "<<a title>>\n\nand no more").correct
    assert json.loads(second.gold)["kwargs"] == [{"num_words": 3}]
    path.write_text(json.dumps({"prompt": "x", "key": 1}) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mull.benchmarks.graders.GRADERS", {"ifeval": lambda: grader})
        with pytest.raises(MullError, match=r"row 1 of .*no 'key', 'instruction_id_list'"):
            load_benchmark("ifeval", data=path)


def test_without_punkt_it_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("NLTK_DATA", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    try:
        IFEvalGrader()
    except MullError as error:
        assert "punkt_tab" in str(error) and "NLTK_DATA" in str(error)
    else:
        pytest.skip("punkt_tab is installed for the whole machine")


def test_the_extra_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setattr("mull.benchmarks.packages.find_spec", lambda name: None)
    with pytest.raises(MullError, match=r"grading IFEval needs lm_eval.*mull\[bench\]"):
        IFEvalGrader()
