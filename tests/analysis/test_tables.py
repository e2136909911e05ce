from __future__ import annotations

import math

import pytest

from mull.analysis.tables import parse_table, published, published_ablations, read_table
from mull.errors import MullError


def test_published_figures():
    rows = published()
    assert len(rows) == 39
    (row,) = [row for row in rows if row.method == "MI-0.8" and row.benchmark == "aime25"]
    assert (row.lam, row.k, row.tokens) == (0.8, 64, 17574)
    assert (row.mean_at_k, row.pass_at_k, row.think_ratio) == pytest.approx((0.805, 0.933, 0.999))
    assert math.isnan(row.vote_at_k)
    assert sum(row.lam is None for row in rows) == 12


def test_published_ablations():
    rows = {(row.study, row.method): row for row in published_ablations()}
    assert [study for study, _ in rows].count("layers") == 6
    row = rows["layers", "layers 12-35"]
    assert (row.lam, row.benchmark, row.k, row.tokens) == (0.8, "aime25", 64, 13159)
    assert (row.mean_at_k, row.think_ratio) == pytest.approx((0.6948, 1.0))
    assert rows["modules", "without ffn"].think_ratio == pytest.approx(0.0068)
    assert math.isnan(rows["backbone", "hybrid"].think_ratio)
    # The one full interpolation, as the sweep's table has it.
    (swept,) = [row for row in published() if row.method == "MI-0.8" and row.benchmark == "aime25"]
    assert rows["layers", "all layers"].mean_at_k == pytest.approx(swept.mean_at_k, abs=5e-4)
    assert rows["decoding", "largest less smallest"].mean_at_k == pytest.approx(0.016)


@pytest.mark.parametrize(
    "text",
    [
        "lambda,benchmark,mean_at_k,tokens,think_ratio\n0,a,50,1234,0\n1,a,80,2000,99.5\n",
        "\ufeffThink #R, Token #N , Mean@64, λ ,Benchmark,note\n 0.0%,1234,50%, 0 ,a,x\n99.5%,2000,80%,1,a,y\n",
        'lam;bench;Accuracy;Token #N;think_r\r\n0;a;0.5;"1,234";0\r\n1;a;0.8;"2,000";0.995\r\n',
        "λ\tdataset\tacc (%)\ttokens\tThink #R (%)\n0\ta\t50\t1234\t0\n\t\t\t\t\n1\ta\t80\t2000\t99.5\n",
    ],
)
def test_spellings_of_one_table(tmp_path, text):
    path = tmp_path / "table.csv"
    path.write_bytes(text.encode())
    if "acc (%)" in text:
        text = text.replace("acc (%)", "acc")
        path.write_bytes(text.encode())
    rows = read_table(path)
    assert [(row.lam, row.benchmark, row.tokens) for row in rows] == [(0, "a", 1234), (1, "a", 2000)]
    assert [row.mean_at_k for row in rows] == pytest.approx([0.5, 0.8])
    assert [row.think_ratio for row in rows] == pytest.approx([0, 0.995])


def test_missing_cells_and_the_unit_of_a_column():
    rows = parse_table("lambda,think_ratio,mean_at_k\n0,-,0.4\n0.5,n/a,0.5\n1,1.4,\n")
    assert math.isnan(rows[0].think_ratio)
    assert rows[2].think_ratio == pytest.approx(0.014), "1.4 cannot be a fraction, so the column is in percent"
    assert rows[1].mean_at_k == 0.5
    assert math.isnan(rows[2].mean_at_k)
    assert parse_table("lambda,think_ratio (%)\n0,0.5\n")[0].think_ratio == pytest.approx(0.005)
    assert parse_table("lambda,think_ratio\n0,0.5%\n1,0.9\n")[1].think_ratio == pytest.approx(0.009)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("lambda,benchmark\n0,a\n", r"no column 'think_ratio'. Its columns are 'lambda', 'benchmark'"),
        ("x,think_ratio\n0,0\n", "no column 'lambda'"),
        ("lambda,think_ratio\n0,0\n1,many\n", r"line 3, column 'think_ratio': 'many' is not a number"),
        ("lambda,think_ratio\n0,inf\n", "not a number"),
        ("lambda,think_ratio\n1e999,0\n", "'1e999' is not a number"),
        ("lambda,think_ratio\n0,130\n", "think_ratio must lie in 0–100 %, got 130 %"),
        ("lambda,think_ratio\n,50\n", "no row with a λ"),
        ("λ,tokens,think_ratio\n0,9,0\n\n1,9\n", "line 4 has 2 cells where the header has 3 .'λ', 'tokens', 'think_ra"),
        ("λ,tokens,think_ratio\n0,9,0\n1,1,234,99\n", "line 3 has 4 cells where the header has 3.*Leave a cell empty"),
        ('λ,note,think_ratio\n0,"two\nlines",0\n1\n', "line 4 has 1 cell where"),
        ('λ,note,think_ratio\n0,"two\nlines",0\n1,,x\n', "line 4, column 'think_ratio'"),
    ],
)
def test_errors_say_where(text, words):
    with pytest.raises(MullError, match=words):
        parse_table(text)


def test_empty_cells_at_the_end_of_a_row_are_no_cells():
    assert [row.think_ratio for row in parse_table("lambda,think_ratio\n0,0,,\n1,1,\n")] == [0, 1]


def test_extrapolated_lambda_and_strata():
    rows = parse_table("lambda,stratum,think_ratio\n-0.5,easy,0\n−0.25,easy,0\n1.5,hard,1\n0,,1\n")
    assert [(row.lam, row.stratum) for row in rows] == [(-0.5, "easy"), (-0.25, "easy"), (1.5, "hard"), (0, "")]


def test_files_that_are_no_tables(tmp_path):
    with pytest.raises(MullError, match="no file"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(MullError, match="cannot read"):
        read_table(tmp_path)
    (tmp_path / "sheet.xlsx").write_bytes(b"PK\x03\x04\xff\xfe")
    with pytest.raises(MullError, match="not UTF-8"):
        read_table(tmp_path / "sheet.xlsx")
