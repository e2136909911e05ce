"""A grader of the user's own: what it is asked, what goes wrong in it and what is said then."""

import json
import os

import pytest

from mull.benchmarks import Question, load_benchmark, make_grader
from mull.benchmarks.graders.own_grader import OwnGrader, as_named
from mull.errors import MullError

SAME = "def same(answer, gold):\n    return gold in answer\n"


@pytest.fixture
def write(tmp_path):
    def write(source, name="mine.py"):
        path = tmp_path / name
        path.write_text(source)
        return path

    return write


def question(gold="7"):
    return Question(id="q-3", text="?", gold=gold)


def test_it_is_asked_with_the_answer_and_the_gold_answer(write):
    grader = make_grader(f"{write(SAME)}:same")
    assert grader.grade(question(), "It is\n\\boxed{7}") == ("7", True, {})
    assert grader.grade(question(), "Well,\n it is 7, I think \n") == ("it is 7, I think", True, {})
    assert grader.grade(question(), "8")[:2] == ("8", False)
    assert grader.grade(question(""), " \n")[:2] == ("", False), "no answer is wrong, whatever the function says"


def test_a_grade_may_say_what_was_answered(write):
    source = (
        "from mull.benchmarks import Grade\n"
        "def first(answer, gold):\n"
        "    word = answer.split()[0]\n"
        "    return Grade(word, word == gold, {'words': len(answer.split())})\n"
    )
    assert make_grader(f"{write(source)}:first").grade(question(), "7 it is") == ("7", True, {"words": 3})


def test_it_may_import_what_lies_beside_it_define_a_dataclass_and_print(write, capfd):
    write("def near(a, b):\n    return abs(float(a) - float(b)) < 1\n", "helping.py")
    source = (
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from helping import near\n"
        "@dataclass\n"
        "class Pair:\n    a: str\n    b: str\n"
        "def grade(answer, gold):\n"
        "    print('asked', answer)\n"
        "    pair = Pair(answer, gold)\n"
        "    return near(pair.a, pair.b)\n"
    )
    grader = make_grader(f"{write(source)}:grade")
    assert [grader.grade(question(), text).correct for text in ("7.5", "9")] == [True, False]
    assert capfd.readouterr().out == ""


def test_the_file_is_run_in_another_process(write):
    source = f"import os\ndef grade(answer, gold):\n    return os.getpid() != {os.getpid()}\n"
    assert make_grader(f"{write(source)}:grade").grade(question(), "x").correct


@pytest.mark.parametrize(
    ("source", "function", "said"),
    [
        (SAME, "smae", "has no function 'smae'. Did you mean 'same'?"),
        ("x = 1\n", "same", "has no function 'same'. Define it there"),
        (SAME + "same = 3\n", "same", "has no function 'same'"),
        ("def same(a, b)\n", "same", "cannot be run: SyntaxError: expected ':' (line 1). Mend it"),
        ("\nimport absent_module\n", "same", "cannot be run: ModuleNotFoundError: No module named 'absent_module' (l"),
        ("raise SystemExit(3)\n", "same", "cannot be run: SystemExit: 3 (line 1)"),
    ],
)
def test_a_file_that_cannot_be_used_is_said_at_once(write, source, function, said):
    path = write(source)
    with pytest.raises(MullError) as refused:
        make_grader(f"{path}:{function}")
    assert str(path) in str(refused.value) and said in str(refused.value)


def test_a_file_that_is_not_there_and_a_function_that_is_not_named(tmp_path):
    with pytest.raises(MullError, match=r"cannot read the grader .*absent.py: No such file.* Give FILE.py:FUNCTION"):
        make_grader(f"{tmp_path}/absent.py:grade")
    for name in ("absent.py", "absent.py:"):
        with pytest.raises(MullError, match=r"names no function. Write FILE.py:FUNCTION"):
            make_grader(name)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return {'a': 1}['b']", "KeyError: 'b' (line 2)"),
        ("return 1", "it returned int 1, not True or False"),
        ("return None", "it returned NoneType None"),
        ("import sys; sys.exit(4)", "SystemExit: 4 (line 2)"),
        ("import os; os._exit(4)", "exit code 4"),
    ],
)
def test_what_fails_in_it_names_the_question(write, body, said):
    path = write(f"def grade(answer, gold):\n    {body}\n")
    grader = make_grader(f"{path}:grade")
    for _ in range(2):  # a child that has ended is started again
        with pytest.raises(MullError) as failed:
            grader.grade(question(), "7")
        assert f"the grader {path}:grade failed on question 'q-3': {said}" in str(failed.value)


def test_a_function_of_other_arguments_names_the_question(write):
    with pytest.raises(MullError, match=r"question 'q-3': TypeError: grade\(\) takes 1 positional argument"):
        make_grader(f"{write('def grade(answer): return True')}:grade").grade(question(), "7")


def test_one_that_hangs_is_ended(write):
    grader = OwnGrader(f"{write('def grade(a, b):' + chr(10) + '    while True: pass')}:grade", seconds=0.5)
    with pytest.raises(MullError, match=r"question 'q-3': no answer within 0.5 s"):
        grader.grade(question(), "7")


def test_what_is_run_is_what_was_hashed(write):
    path = write(SAME)
    grader = OwnGrader(f"{path}:same")
    write(SAME + "# later\n")
    assert grader.grade(question(), "7").correct, "the process has the file as it was"
    grader._worker.close()
    with pytest.raises(MullError, match="cannot be run: it has changed since it was read"):
        grader.grade(question(), "7")


def test_the_description_has_the_bytes_and_no_path(write, tmp_path):
    path = write(SAME)
    first = make_grader(f"{path}:same").describe()
    (tmp_path / "elsewhere").mkdir()
    moved = path.rename(tmp_path / "elsewhere" / "mine.py")
    assert make_grader(f"{moved}:same").describe() == first
    assert first["name"] == "mine.same" and as_named(first) == "mine.py:same"
    moved.write_text(SAME + "\n")
    assert make_grader(f"{moved}:same").describe()["sha256"] != first["sha256"]
    assert as_named({"name": "letter-robust", "version": "2"}) == "letter-robust"


def test_a_benchmark_tries_it_before_anything_is_sampled(write, tmp_path):
    data = tmp_path / "two.jsonl"
    rows = [{"id": "a", "question": "1 + 1?", "answer": "2"}, {"id": "b", "question": "pi?", "answer": "3.14"}]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    grader = f"{write('def grade(answer, gold): return int(answer) == int(gold)')}:grade"
    with pytest.raises(MullError, match="on question 'b': ValueError: invalid literal"):
        load_benchmark(str(data), grader=grader)
    benchmark = load_benchmark(str(data), grader=f"{write(SAME)}:same")
    assert benchmark.prompt(benchmark.questions()[0]) == [{"role": "user", "content": "1 + 1?"}]
    with pytest.raises(MullError, match="on question 'report-0-0000': it returned str"):
        load_benchmark("tiny", questions=2, grader=f"{write('def grade(a, b): return a')}:grade")


def test_the_built_in_benchmark_can_have_one(write):
    whole = load_benchmark("tiny", questions=2)
    benchmark = load_benchmark("tiny", questions=2, grader=f"{write(SAME)}:same")
    first = benchmark.questions()[0]
    assert benchmark.grade(first, f"so {first.gold}").correct and not whole.grade(first, f"so {first.gold}").correct
    assert {key: value for key, value in benchmark.describe().items() if key != "grader"} == whole.describe()
