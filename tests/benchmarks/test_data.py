"""Benchmarks from files: rows, prompts, records, what is refused, and the hub when it cannot be reached."""

import contextlib
import csv
import datetime
import decimal
import hashlib
import json
import math
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
    ("value", "gold"),
    [
        ("7", "7"), ("7.0", "7"), ("2.50", "2.5"), ("0.1234567890123456789", "0.1234567890123456789"),
        ("12345678901234567890123", "12345678901234567890123"),
        ("1e999", "1e999"), ("9007199254740993.0", "9007199254740993.0"),
        ("true", "true"), ("0", "0"),
        ('"7.0"', "7.0"), ("-0.5", "-0.5"),
    ],
)  # fmt: skip
def test_numbers_in_json_are_kept_as_they_were_written(tmp_path, value, gold):
    path = tmp_path / "mine.jsonl"
    path.write_text(f'{{"question": "x", "answer": {value}, "id": 12, "stratum": 0}}\n')
    (found,) = load_benchmark(str(path), grader="exact").questions()
    assert (found.id, found.gold, found.stratum) == ("12", gold, "0")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('"answer": NaN', "or nothing in it"),
        ('"answer": Infinity', "'answer' holds an infinite number"),
        ('"answer": ["a", "b"]', "'answer' holds a list"),
        ('"answer": {"a": 1}', "'answer' holds an object"),
        ('"answer": 1, "answer": 2', "line 2 of .* has 'answer' twice"),
        ('"answer": 1, "expected_answer": 2', "columns 'expected_answer' and 'answer' differ"),
        ('"answer": 1, "id": [3]', "'id' holds a list"),
        ('"answer": "$$"', "nothing but marks"),
        ('"answer": 1, "options": ["a", "", "b"]', "an option is empty"),
        ('"answer": 1, "options": "a, b"', "no list in JSON"),
        ('"answer": 1, "option_a": "x", "option_c": "y"', "do not follow each other"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_row(tmp_path, line, why):
    path = tmp_path / "mine.jsonl"
    path.write_text(f'{{"question": "w", "answer": 1}}\n{{"question": "x", {line}}}\n')
    with pytest.raises(MullError, match=why) as caught:
        load_benchmark(str(path), grader="exact")
    assert "row 2" in str(caught.value) or "line 2" in str(caught.value)


def test_values_of_a_table_are_kept_or_refused(tmp_path):
    path = tmp_path / "mine.parquet"
    day = datetime.date(2024, 2, 29)
    golds = {"day": day, "cents": decimal.Decimal("2.50"), "yes": True, "count": 2**60}
    for gold, text in zip(golds.values(), ["2024-02-29", "2.50", "true", str(2**60)], strict=True):
        polars.DataFrame({"question": ["x"], "answer": [gold]}).write_parquet(path)
        assert load_benchmark(str(path), grader="exact").questions()[0].gold == text
    polars.DataFrame({"question": ["x", "y"], "answer": [3.0, math.nan]}).write_parquet(path)
    with pytest.raises(MullError, match=r"row 2 of .*nothing in it"):
        load_benchmark(str(path), grader="exact")
    polars.DataFrame({"question": ["x", "y"], "answer": [3.0, 2.0**60]}).write_parquet(path)
    with pytest.raises(MullError, match=r"row 2 of .*may have been rounded"):
        load_benchmark(str(path), grader="exact")


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("question,answer,answer\nx,1,2\n")
    with pytest.raises(MullError, match="has the column 'answer' twice"):
        load_benchmark(str(path), grader="exact")


OPTIONS = [
    {"options": ["w", "x", "y", "z", "v"]},
    {"choices": {"label": list("ABCDE"), "text": ["w", "x", "y", "z", "v"]}},
    {"options": '["w", "x", "y", "z", "v"]'},
    {"A": "w", "B": "x", "C": "y", "D": "z", "E": "v", "F": None},
    {"option_a": "w", "option_b": "x", "option_c": "y", "option_d": "z", "option_e": "v"},
    {"Choice 1": "w", "Choice 2": "x", "Choice 3": "y", "Choice 4": "z", "Choice 5": "v"},
]


@pytest.mark.parametrize("columns", OPTIONS)
def test_options_from_columns_are_asked_and_graded(tmp_path, columns):
    path = jsonl(tmp_path / "mine.jsonl", [{"question": "Which?", "answer": "e", **columns}])
    benchmark = load_benchmark(str(path), grader="letter")
    (found,) = benchmark.questions()
    assert found.text == "Which?\n\nA) w\nB) x\nC) y\nD) z\nE) v"
    assert "where LETTER is one of ABCDE. Think" in benchmark.prompt(found)[0]["content"]
    assert benchmark.grade(found, "ANSWER: E").correct


def test_options_that_the_question_has_already_are_not_added(tmp_path):
    row = {"question": "Which?\nA) w\nB) x", "answer": "B", "options": ["w", "x"]}
    (found,) = load_benchmark(str(jsonl(tmp_path / "mine.jsonl", [row])), grader="letter").questions()
    assert found.text == row["question"]


@pytest.mark.parametrize(
    ("grader", "row"),
    [
        ("letter", {"answer": "E"}), ("letter", {"answer": 1}), ("letter-robust", {"answer": "AB"}),
        ("letter", {"answer": "C", "options": ["x", "y"]}), ("letter", {"answer": "(B)"}), ("letter", {"answer": True}),
        ("letter", {"answer": "E", "options": list("wxyz")}), ("integer", {"answer": "7.5"}),
        ("integer", {"answer": "seven"}),
    ],
)  # fmt: skip
def test_a_gold_answer_that_its_grader_never_gives_is_refused(tmp_path, grader, row):
    good = {"question": "v", "answer": "B" if grader != "integer" else 3}
    path = jsonl(tmp_path / "mine.jsonl", [good, {"question": "w", **row}])
    with pytest.raises(MullError, match=rf"row 2 of .*the grader '{grader}' would call every response wrong"):
        load_benchmark(str(path), grader=grader)


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
    "bytes.jsonl": (b'{"question": "\xff"}', "is not UTF-8 text: byte 0xff in line 1"),
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
# Not ru_maxrss, which begins with the memory of whoever has started this process.
own = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print((int(own) + used[1].ru_maxrss) << 10, sum(each.ru_utime + each.ru_stime for each in used))
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


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-8-sig", None),
        ("utf-16", "begins with the mark of UTF-16. Save it as UTF-8, as with: iconv -f UTF-16 -t UTF-8 'my sums"),
        ("utf-32", "begins with the mark of UTF-32"),
        ("utf-16-le", "every other byte is 0, as in UTF-16"),
        ("latin-1", "byte 0xe9 in line 2 may be WINDOWS-1252. Save it as UTF-8"),
    ],
)
def test_encodings_are_read_or_named_with_the_remedy(tmp_path, suffix, encoding, said):
    path = tmp_path / f"my sums.{suffix}"
    rows = [{"question": "un", "answer": "1"}, {"question": "café", "answer": "2"}]
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    if suffix == "csv":
        text = "question,answer\ncafé,2\n"
    path.write_bytes(text.encode(encoding))
    if said is None:
        assert load_benchmark(str(path), grader="exact").questions()[-1].text == "café"
    else:
        with pytest.raises(MullError) as error:
            load_benchmark(str(path), grader="exact")
        assert f"{path} is not UTF-8 text: " in str(error.value) and said in str(error.value)


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_the_header_says_what_separates_the_columns_of_a_csv(tmp_path, mark):
    path = tmp_path / "mine.csv"
    path.write_text(f'question{mark}answer\n"1{mark} 2?"{mark}3\n')
    assert [(q.text, q.gold) for q in load_benchmark(str(path), grader="exact").questions()] == [(f"1{mark} 2?", "3")]
    path.write_text(f"question{mark}answer\na{mark}1{mark}2\n")
    with pytest.raises(MullError, match="Check its quotes and"):
        load_benchmark(str(path), grader="exact")


def test_a_file_of_another_kind_is_told_which_kinds_there_are(tmp_path):
    for name, hint in (("mine.json", "; one JSON object per line is .jsonl"), ("mine.tsv", "tabs are read, too")):
        (tmp_path / name).write_text("[]")
        with pytest.raises(MullError, match=f"{name} is no data file. Give a .jsonl, .csv or .parquet file.*{hint}"):
            load_benchmark(str(tmp_path / name), grader="exact")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("gsm", "'gsm8k'"),
        ("GSM-8K", "'gsm8k'"),
        ("math", "'math500'"),
        ("aime", "'aime24' or 'aime25'"),
        ("gpqa_diamond", "'gpqa'"),
    ],
)
def test_words_for_benchmarks_lead_to_their_names(name, meant):
    with pytest.raises(MullError, match=rf"Did you mean {meant}\? Or a .jsonl, .csv or .parquet file"):
        load_benchmark(name)


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
