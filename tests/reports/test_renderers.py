"""LaTeX, Markdown and HTML of a table: structure, marks, escapes."""

import csv as reader
import io
import re
import shutil
import subprocess
from dataclasses import replace

import pytest
from rich.console import Console

from mull.reports import renderers
from mull.reports.html.render import html
from mull.reports.renderers import latex, markdown, terminal
from mull.reports.table import Cell, Column, Row, Table

TABLE = Table(
    name="t",
    title="A & B",
    caption="n = 3, ± one standard error.",
    head="Method",
    columns=[
        Column(key="a", head="Mean@2", group="x_1"),
        Column(key="b", head="Token #N", group="x_1", decimals=0),
        Column(key="c", head="Δ"),
        Column(key="d", head="note", decimals=None),
    ],
    rows=[
        Row("[0, 1]", [Cell(50.04, 1.26, mark="best"), Cell(1234.4), Cell(-1.5, low=-2, high=-1), "50 %"], "own"),
        Row("<b>", [Cell(49, mark="second"), Cell(), Cell(2, note="on every question"), "a|b"], "own"),
        Row("c", [Cell(48, mark="near-second"), Cell(7), Cell(), ""], "theirs"),
    ],
)


def test_latex():
    text = latex(TABLE)
    lines = text.splitlines()
    assert lines[0].startswith("%") and lines[-1] == "\\end{table*}"
    assert "\\caption{A \\& B. n = 3, $\\pm$ one standard error. Bold: " in text
    assert " & \\multicolumn{2}{c}{x\\_1} &  &  \\\\" in lines
    assert "\\cmidrule(lr){2-3}" in lines
    assert "\\begin{tabular}{lrrrl}" in lines
    assert (
        "{[0, 1]} & \\textbf{50.0} {\\tiny $\\pm$ 1.3} & 1,234 & $-$1.5 {\\tiny [$-$2.0, $-$1.0]} & 50 \\% \\\\"
        in lines
    )
    second = (
        "{\\textless{}b\\textgreater{}} & \\underline{49.0} & -- & 2.0 {\\tiny on every question} & a\\textbar{}b \\\\"
    )
    assert second in lines
    assert "{c} & 48.0$^\\ddagger$ & 7 & -- &  \\\\" in lines
    for line in lines:  # every row has as many cells as the alignment, sections span them all
        if line.endswith("\\\\") and "\\multicolumn{5}" not in line:
            spanned = sum(int(n) - 1 for n in re.findall(r"\\multicolumn{(\d+)}", line))
            assert len(re.findall(r"(?<!\\)&", line)) + spanned == 4, line
    assert text.count("\\multicolumn{5}{l}{\\textit{own}}") == text.count("{\\textit{theirs}}") == 1
    # A bracket would be an argument of the row's end or rule before it.
    assert not any(line.startswith("[") for line in lines)


def test_a_long_table_breaks_over_pages():
    text = latex(replace(TABLE, rows=TABLE.rows * 20))
    assert "\\begin{longtable}{lrrrl}" in text and "\\endhead" in text and "table*" not in text
    first, later, _ = re.split(r"\\endfirsthead|\\endhead", text)
    assert "\\caption" in first and "\\label{tab:t}" in first, "listed and labelled once"
    assert "\\caption" not in later and "\\label" not in later
    assert "Mean@2" in first and "Mean@2" in later
    assert text.count("{") - text.count("\\{") == text.count("}") - text.count("\\}")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX here")
@pytest.mark.parametrize("times", [1, 20])
def test_latex_compiles(tmp_path, times):
    packages = "\\usepackage[utf8]{inputenc}\\usepackage{booktabs,longtable}"
    body = latex(replace(TABLE, rows=TABLE.rows * times))
    document = f"\\documentclass{{article}}{packages}\\begin{{document}}{body}\\end{{document}}"
    (tmp_path / "t.tex").write_text(document)
    subprocess.run(["pdflatex", "-halt-on-error", "t.tex"], cwd=tmp_path, check=True, capture_output=True)


def test_markdown():
    lines = markdown(TABLE).splitlines()
    assert "| Method | x\\_1 Mean@2 | x\\_1 Token \\#N | Δ | note |" in lines
    assert "| --- | ---: | ---: | ---: | --- |" in lines
    assert "| [0, 1] | **50.0** ± 1.3 | 1,234 | −1.5 [−2.0, −1.0] | 50 % |" in lines
    assert "| \\<b\\> | <u>49.0</u> | – | 2.0 on every question | a\\|b |" in lines
    assert "| c | 48.0‡ | 7 | – |  |" in lines
    assert "| *own* |  |  |  |  |" in lines


@pytest.mark.parametrize("width", [30, 40, 60, 80, 200])
def test_a_terminal_keeps_the_first_column_and_what_fits(width):
    columns = [Column(key=f"c{i}", head=f"head {i}", by_error=True) for i in range(6)]
    rows = [Row(f"{i / 10:g}", [Cell(10.0 * i + j, 1.25) for j in range(6)]) for i in range(3)]
    table = Table(name="t", title="T", caption="what", head="λ", columns=columns, rows=rows)
    console = Console(width=width, file=io.StringIO())
    console.print(terminal(table))
    text = console.file.getvalue()
    assert all(len(line) <= width for line in text.splitlines())
    assert "λ" in text and "0.2" in text and "0.0 ± 1.2" in text and "…" not in text
    shown = [i for i in range(6) if re.search(rf"\b{20 + i}\.0 ± 1\.2", text)]
    assert shown == list(range(len(shown))) and (len(shown) == 6) == (width >= 80)
    assert ("no room here" in text) == (len(shown) < 6)


def test_html():
    text = html(TABLE)
    assert '<strong>50.0</strong> <span class="e">± 1.3</span>' in text
    assert "<u>49.0</u>" in text and "48.0‡" in text
    assert "<b>" not in text and "&lt;b&gt;" in text
    assert '<th scope="colgroup" colspan="2" class="over">x_1</th>' in text
    assert text.count('<tr class="group">') == 2


def test_the_legend_explains_the_marks_in_use():
    assert "underlined" in TABLE.legend and "‡" in TABLE.legend and "†" not in TABLE.legend
    assert replace(TABLE, rows=[]).legend == TABLE.caption


def test_frame():
    frame = TABLE.frame()
    assert frame.columns == [
        *("section", "method", "a", "a_error", "a_mark", "b", "c", "c_low", "c_high", "d"),
    ]
    assert frame["a"].to_list() == [50.04, 49, 48] and frame["a_error"].to_list() == [1.26, None, None]
    assert frame["a_mark"].to_list() == ["best", "second", "near-second"]
    assert frame["b"].to_list() == [1234.4, None, 7]


def test_a_formula_in_a_name_is_text_in_csv_and_the_numbers_stay():
    rows = [Row(name, [Cell(-0.25)], section=name) for name in ("=cmd|' /C calc'!A0", "@SUM(1);=1", "-0.2", "easy")]
    table = Table(
        name="t", title="T", caption="C", head="Setting", columns=[Column(key="mean", head="Mean")], rows=rows
    )
    lines = renderers.csv(table).decode().splitlines()
    found = list(reader.reader(lines))
    assert [row[1] for row in found[1:]] == ["'=cmd|' /C calc'!A0", "'@SUM(1);=1", "-0.2", "easy"]
    assert [row[2] for row in found[1:]] == ["-0.25"] * 4
    assert '"\'@SUM(1);=1"' in lines[2]  # also where a spreadsheet splits at semicolons


def test_html_in_a_name_is_text_in_markdown():
    row = Row("<img src=x onerror=alert(1)>|[a](b)", [Cell(1.0)])
    table = Table(name="t", title="<b>T", caption="C", head="H", columns=[Column(key="m", head="M")], rows=[row])
    text = renderers.markdown(table)
    assert "\\<img src=x onerror=alert(1)\\>\\|[a\\](b)" in text and "### \\<b\\>T" in text


def test_a_difference_that_there_is_none_of_is_a_dash():
    columns = [Column(key="gain", head="gain", scale=100, signed=True)]
    empty = Table(name="t", title="T", caption="c", head="x", columns=columns, rows=[Row("a", [Cell()])])
    for text in (latex(empty), markdown(empty), html(empty)):
        assert "nan" not in text.lower()
    assert "| a | – |" in markdown(empty)
