"""Benchmarks from files: rows, prompts, records, what is refused, and the hub when it cannot be reached."""

import contextlib
import csv
import datetime
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import polars
import pytest

from mull.benchmarks import load_benchmark, rows
from mull.benchmarks.catalog import CHOICE, SPECS
from mull.errors import MullError

ROWS = [
    {"id": "a", "question": "1+1?", "answer": "2", "stratum": "easy"},
    {"id": "b", "question": "{x} and\n$y$?", "answer": 7.0, "stratum": "hard"},
]


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def gpqa(path, count=8):
    """The columns of the gated file, with content of our own."""
    head = ["Record ID", "Incorrect Answer 2", "Question", "Correct Answer", "Incorrect Answer 1", "Incorrect Answer 3"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*head, "High-level domain", "Canary String"])
        for i in range(count):
            cells = ["rec", f"wrong2-{i}", f'Q{i}, "quoted"\nin two lines', f"right-{i}", f"wrong1-{i}", f"wrong3-{i}"]
            writer.writerow([*cells, "Physics", "canary"])
    return path


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_file_of_ones_own(tmp_path, suffix):
    path = tmp_path / f"mine.{suffix}"
    if suffix == "jsonl":
        jsonl(path, ROWS)
    else:
        frame = polars.DataFrame([{**row, "answer": str(row["answer"]).removesuffix(".0")} for row in ROWS])
        frame.write_csv(path) if suffix == "csv" else frame.write_parquet(path)
    benchmark = load_benchmark(str(path), grader="integer")
    assert [(q.id, q.text, q.gold, q.stratum) for q in benchmark.questions()] == [
        ("a", "1+1?", "2", "easy"), ("b", "{x} and\n$y$?", "7", "hard"),
    ]  # fmt: skip
    assert benchmark.name == "mine"
    assert benchmark.prompt(benchmark.questions()[1]) == [
        {
            "role": "user",
            "content": "{x} and\n$y$?\nPlease reason step by step, and put your final answer within \\boxed{}.",
        }
    ]
    assert benchmark.describe() == {
        "name": "mine",
        "questions": 2,
        "data": hashlib.sha256(path.read_bytes()).hexdigest(),
        "prompt": "{question}\nPlease reason step by step, and put your final answer within \\boxed{}.",
        "system": None,
        "grader": {"name": "integer", "version": "1"},
    }
    assert benchmark.grade(benchmark.questions()[1], "\\boxed{7}").correct


def test_fewer_questions_are_the_first_ones(tmp_path):
    path = jsonl(tmp_path / "mine.jsonl", ROWS)
    assert [q.id for q in load_benchmark(str(path), grader="exact", questions=1).questions()] == ["a"]
    with pytest.raises(MullError, match="has 2 questions, not 3"):
        load_benchmark(str(path), grader="exact", questions=3)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "holds no rows"),
        ("{}\n", r"row 1 of .*no column 'question' or"),
        ('{"question": "x"}\n', r"row 1 of .*no column 'expected_answer' or"),
        ('{"question": "x", "answer": ""}\n', "or nothing in it"),
        ('{"question": "x", "answer": 1}\n{', "line 2 of .* is no JSON object"),
        ("[1]\n", "line 1 of .* is no JSON object"),
        ('{"question": "x", "answer": 1, "id": "a"}\n' * 2, "row 2 of .*: the id is there twice"),
    ],
)
def test_a_bad_file_is_named_with_its_row(tmp_path, content, why):
    path = tmp_path / "mine.jsonl"
    path.write_text(content)
    with pytest.raises(MullError, match=why):
        load_benchmark(str(path), grader="exact")


@pytest.mark.parametrize(
    ("name", "options", "why"),
    [
        ("mine.jsonl", {}, "needs a grader. Give --grader: math, integer"),
        ("none.jsonl", {"grader": "exact"}, "cannot read none.jsonl: No such file"),
        ("none.jsonl", {"grader": "exact", "data": Path("x.jsonl")}, "is a file already"),
        ("none.txt", {"grader": "exact"}, "unknown benchmark 'none.txt'"),
        ("aime2025", {}, "unknown benchmark 'aime2025'.*'aime25'"),
        ("tiny", {"grader": "exact"}, "'tiny' makes its questions"),
        ("amc23", {"data": Path("x.txt"), "grader": "integer"}, "x.txt is no data file"),
    ],
)
def test_what_cannot_be_loaded_is_said(name, options, why):
    with pytest.raises(MullError, match=why):
        load_benchmark(name, **options)


LIMITED = {
    "deep.jsonl": ('{"question": ' + "[" * 100_000, "line 1 of .* is nested too deeply"),
    "number.jsonl": ('{"question": "a", "answer": ' + "9" * 5000 + "}", "line 1 of .* is no JSON object"),
    "half.jsonl": ('{"question": "\\ud83d", "answer": "a"}', "line 1 of .* has half of a character"),
    "half id.jsonl": ('{"question": "q", "answer": "a", "id": "\\ude00"}', "line 1 of .* has half of a character"),
    "half key.jsonl": ('{"question": "q", "answer": "a", "\\ud83d": 1}', "line 1 of .* has half of a character"),
    "bytes.jsonl": (b'{"question": "\xff"}', "line 1 of .* is no JSON object"),
    "line.jsonl": ('{"question": "' + "a" * (17 << 20) + '"}', "line 1 of .* has more than 16 MB"),
    "wide.jsonl": ('{"question": [' + "[]," * (6 << 20) + "1]}", "line 1 of .* has more than 16 MB"),
    "large.jsonl": ("\n" * ((64 << 20) + 1), "has more than 64 MB"),
    "rows.jsonl": ('{"question":1,"answer":1}\n' * 250_001, r"has more than 250,000 rows"),
    "cell.csv": ("question,answer\n" + "a" * 200_000 + ",1\n", "is no CSV file"),
    "nul.csv": ("question,answer\n\0,\n", "row 1 of"),
    "quote.csv": ('question,answer\n"a,1\n', "row 1 of .* has other columns"),
    "text.parquet": ("PAR1 is not enough PAR1", "is no Parquet file"),
    "nothing.parquet": ("", "is no Parquet file"),
}


@pytest.mark.parametrize(("name", "content", "why"), [(name, *case) for name, case in LIMITED.items()], ids=LIMITED)
def test_whatever_a_file_holds_the_answer_is_one_line(tmp_path, name, content, why):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(MullError, match=why) as error:
        load_benchmark(str(path), grader="exact")
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize("depth", range(880, 1000, 10))
def test_at_the_limit_of_nesting_a_row_is_read_or_refused(tmp_path, depth):
    path = tmp_path / "deep.jsonl"
    path.write_text('{"answer": 1, "question": ' + "[" * depth + "]" * depth + "}")
    with contextlib.suppress(MullError):
        (question,) = load_benchmark(str(path), grader="exact").questions()
        assert question.text == "[" * depth + "]" * depth


SMALL = {
    "repeated": "polars.DataFrame({'question': ['a' * 1000] * 1_500_000, 'answer': 'b'})",
    "one long text": "polars.DataFrame({'question': ['a' * (700 << 20)], 'answer': ['b']})",
    "many rows": "polars.DataFrame({'question': polars.repeat(0, 50_000_000, eager=True), 'answer': 1})",
}
"""Small Parquet files of gigabytes: by a dictionary's repetition, or by compression."""
MEASURED = """
import resource, sys
from mull.benchmarks import load_benchmark
from mull.errors import MullError
try:
    load_benchmark(sys.argv[1], grader="exact", questions=1)
except MullError as error:
    print(error)
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(sum(each.ru_maxrss for each in used) << 10, sum(each.ru_utime + each.ru_stime for each in used))
"""


@pytest.mark.parametrize("frame", SMALL.values(), ids=SMALL)
def test_a_small_file_that_unpacks_to_gigabytes_is_refused(tmp_path, frame):
    path = tmp_path / "small.parquet"
    subprocess.run([sys.executable, "-c", f"import polars; {frame}.write_parquet({str(path)!r}, statistics=False)"])
    assert 0 < path.stat().st_size < 4 << 20
    done = subprocess.run([sys.executable, "-c", MEASURED, path], capture_output=True, text=True)
    said, used = done.stdout.splitlines()
    assert re.search("small.parquet (unpacks to more than 64 MB|cannot be unpacked|is no Parquet)", said), said
    memory, seconds = map(float, used.split())
    assert memory < 1 << 30 and seconds < 20


def test_parquet_values_come_as_text_and_nested(tmp_path):
    path = tmp_path / "mine.parquet"
    day = datetime.date(2025, 3, 1)
    polars.DataFrame({"question": ["q"], "answer": [day], "nested": [[{"a": 1}]], "id": ["x"]}).write_parquet(path)
    (row,) = rows.read([path]).rows
    assert row == {"question": "q", "answer": "2025-03-01", "nested": [{"a": 1}], "id": "x"}


def test_csv_with_ragged_rows_or_another_encoding_is_refused(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("question,answer\na,1\nb,2,3\n")
    with pytest.raises(MullError, match=r"row 2 of .* has other columns"):
        load_benchmark(str(path), grader="exact")
    path.write_bytes("question,answer\ncafé,1\n".encode("latin-1"))
    with pytest.raises(MullError, match="is not UTF-8"):
        load_benchmark(str(path), grader="exact")


def test_contest_answers_are_integers_however_the_file_has_them(tmp_path):
    rows = [{"problem": f"p{i}", "answer": answer} for i, answer in enumerate(["070", "336^\\circ", 27.0, 5, "$8$"])]
    path = jsonl(tmp_path / "aime.jsonl", rows)
    asked = load_benchmark("aime25", data=path, grader="integer").questions()
    assert [q.gold for q in asked] == ["70", "336", "27", "5", "8"]
    with pytest.raises(MullError, match=r"row 1 of .*the answer is no integer"):
        load_benchmark("aime25", data=jsonl(path, [{"problem": "p", "answer": "x"}]), grader="integer")


def test_gsm8k_takes_what_follows_the_marks(tmp_path):
    path = jsonl(tmp_path / "g.jsonl", [{"question": "q", "answer": "2 + 3 = <<2+3=5>>5\n#### 1,005"}])
    assert load_benchmark("gsm8k", data=path, grader="integer").questions()[0].gold == "1005"


def test_gpqa_is_read_by_header_and_its_options_go_round(tmp_path):
    benchmark = load_benchmark("gpqa", data=gpqa(tmp_path / "gpqa_diamond.csv"))
    asked = benchmark.questions()
    # As in OpenCompass, whose counter is at 1 for the first question: BCDA, CDAB, DABC, ABCD, and again.
    assert [q.gold for q in asked] == ["D", "C", "B", "A"] * 2
    assert asked[0].text == 'Q0, "quoted"\nin two lines\n\nA) wrong1-0\nB) wrong2-0\nC) wrong3-0\nD) right-0'
    assert asked[3].text.endswith("A) right-3\nB) wrong1-3\nC) wrong2-3\nD) wrong3-3")
    (message,) = benchmark.prompt(asked[0])
    assert message["content"] == (
        "Answer the following multiple choice question. The last line of your response should be of the following "
        "format: 'ANSWER: $LETTER' (without quotes) where LETTER is one of ABCD. Think step by step before answering."
        "\n\n" + asked[0].text
    )
    record = benchmark.describe()
    assert record["private"] and record["prompt"] == CHOICE and "BCDA" in record["order"]
    assert "Q0" not in json.dumps(record)
    assert benchmark.grade(asked[0], "ANSWER: D").correct


def test_gpqa_without_its_columns_is_refused_without_its_text(tmp_path):
    path = tmp_path / "gpqa.csv"
    path.write_text("Question,Correct Answer\nsecret,right\n")
    with pytest.raises(MullError, match=r"row 1 of .*no column 'Incorrect Answer 1'") as caught:
        load_benchmark("gpqa", data=path)
    assert "secret" not in str(caught.value)


def test_sources_are_pinned_and_no_two_benchmarks_share_a_title():
    for spec in SPECS.values():
        assert len(spec.source.revision) == 40 and set(spec.source.revision) <= set("0123456789abcdef")
        assert "{question}" in spec.prompt
    assert len({spec.title for spec in SPECS.values()}) == len(SPECS)
    assert [name for name, spec in SPECS.items() if spec.source.private] == ["gpqa"]


def test_from_the_hub(tmp_path, monkeypatch):
    asked = []

    def download(repo, file, **options):
        asked.append((repo, file, options))
        folder = Path(options["local_dir"] or tmp_path)
        if repo.endswith("gpqa"):
            return str(gpqa(folder / file))
        return str(jsonl(tmp_path / file, [{"question": f"{file}?", "answer": "5"}]))

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    aime = load_benchmark("aime25", grader="integer")
    assert [q.id for q in aime.questions()] == ["aime25-0000", "aime25-0001"]
    assert {(repo, options["revision"], options["repo_type"]) for repo, _, options in asked} == {
        ("opencompass/AIME2025", "a6ad95f611d72cf628a80b58bd0432ef6638f958", "dataset")
    }
    assert len(load_benchmark("gpqa").questions()) == 8
    folder = asked[-1][2]["local_dir"]
    assert folder and not Path(folder).exists()  # nothing of it is left behind


def test_a_hub_out_of_reach_says_what_to_do(monkeypatch):
    def refuse(*arguments, **options):
        raise ConnectionError("no route to host\nand more")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    with pytest.raises(MullError, match=r"MATH-500 could not be loaded .*\(no route to host\).*--data FILE"):
        load_benchmark("math500", grader="integer")
    with pytest.raises(MullError, match=r"Idavidrein/gpqa .*Accept the terms of .* `hf auth login`"):
        load_benchmark("gpqa")


def test_a_hub_out_of_reach_for_real(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MullError, match=r"math-ai/amc23 could not be loaded from the hub"):
        load_benchmark("amc23", grader="integer")
