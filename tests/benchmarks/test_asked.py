"""A prompt and a system message of one's own: what is asked, what is recorded, what is refused."""

import json

import pytest

from mull.benchmarks import load_benchmark
from mull.benchmarks.arithmetic import Arithmetic
from mull.benchmarks.asked import asked
from mull.benchmarks.base import Question
from mull.benchmarks.dataset import conversation
from mull.errors import MullError


@pytest.fixture
def choice(tmp_path):
    path = tmp_path / "choice.jsonl"
    rows = [
        {"question": "Which is {options}?", "answer": "B", "options": ["red", "blue"]},
        {"question": "Which of them?\n(A) one\n(B) two\n(C) three", "answer": "C"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_benchmark(str(path), grader="letter")


def contents(benchmark):
    return [[(m["role"], m["content"]) for m in benchmark.prompt(question)] for question in benchmark.questions()]


def test_the_template_replaces_the_user_message(tmp_path):
    path = tmp_path / "prompt.txt"
    path.write_bytes("\ufeffSolve:\r\n{question}\r\nλ\n".encode())
    whole = Arithmetic(2)
    own = asked(whole, prompt=path, system="Be brief.")
    text = whole.questions()[0].text
    assert contents(own)[0] == [("system", "Be brief."), ("user", f"Solve:\n{text}\nλ")]
    assert own.describe() == {**whole.describe(), "prompt": "Solve:\n{question}\nλ", "system": "Be brief."}
    assert own.grade(whole.questions()[0], rf"\boxed{{{whole.questions()[0].gold}}}").correct


def test_options_may_stand_elsewhere(choice):
    apart = asked(choice, prompt="{options}\n---\n{question} Give one of ABCD.")
    assert contents(apart) == [
        [("user", "A) red\nB) blue\n---\nWhich is {options}? Give one of AB.")],
        [("user", "(A) one\n(B) two\n(C) three\n---\nWhich of them? Give one of ABC.")],
    ]
    assert contents(asked(choice, prompt="{question}!"))[0] == [("user", "Which is {options}?\n\nA) red\nB) blue!")]


@pytest.mark.parametrize("prompt", [None, "{question}?"])
@pytest.mark.parametrize("system", [None, "", "Be brief."])
def test_who_reads_a_run_asks_the_same(choice, prompt, system):
    """Estimators and the pilot study make the prompts anew from the record."""
    own = asked(choice, prompt=prompt, system=system)
    record = own.describe()
    again = [conversation(each, record["prompt"], record["system"]) for each in own.questions()]
    assert again == [own.prompt(each) for each in own.questions()]
    assert own.describe()["prompt"] == (prompt or choice.template)


def test_a_system_message_is_replaced_or_left_out():
    class WithSystem(Arithmetic):
        def prompt(self, question):
            return [{"role": "system", "content": "own"}, *super().prompt(question)]

    whole = WithSystem(1)
    assert [m["role"] for m in asked(whole, system="").prompt(whole.questions()[0])] == ["user"]
    assert asked(whole, system="new").prompt(whole.questions()[0])[0]["content"] == "new"
    assert asked(whole, prompt="{question}").prompt(whole.questions()[0])[0]["content"] == "own"
    assert asked(whole) is whole


def test_what_is_refused(tmp_path):
    whole = Arithmetic(1)
    (tmp_path / "latin").write_bytes(b"{question} \xe9")
    (tmp_path / "large").write_bytes(b"{question}" + b" " * (1 << 20))
    (tmp_path / "without").write_text("Solve it.")
    for prompt, said in (
        ("Solve it.", "the prompt does not say where the question goes. Write {question} there"),
        (tmp_path / "without", "without does not say where the question goes"),
        ("{{question}}", "one pair of braces"),
        ("{question} {options}", "question report-0-0000 of tiny has no options. Leave {options} out"),
        (tmp_path / "none", "No such file"),
        (tmp_path, "Is a directory"),
        (tmp_path / "latin", "is not UTF-8 text"),
        (tmp_path / "large", "more than 1,048,576 bytes"),
    ):
        with pytest.raises(MullError) as error:
            asked(whole, prompt=prompt)
        assert said in str(error.value)


def test_one_option_is_none():
    from mull.benchmarks.graders.letters import apart

    assert apart(Question(id="q", text="A) thing", gold="A")) == ("A) thing", "")
