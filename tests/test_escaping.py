"""Foreign text where it is shown: it commands no terminal, makes no markup, and no spreadsheet computes it."""

import io
import json
import os

import pytest
import yaml as reader
from hypothesis import example, given
from hypothesis import strategies as st

from mull.api.progress.console import SafeConsole
from mull.cli.rendering.logs import complain
from mull.escaping import csv_cell, markdown, visible, yaml


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[2J", "\\u001b[31mred\\u001b[2J"),
        ("a\x9b2Jb\x7f\x07", "a\\u009b2Jb\\u007f\\u0007"),
        ("over\rwritten", "over\\u000dwritten"),
        ("\u202eevil\u2066", "\\u202eevil\\u2066"),
        ("half \ud83d", "half \\ud83d"),
        ("λ = 0.5, ünïcode, 思考 😀\n\ttab", "λ = 0.5, ünïcode, 思考 😀\n\ttab"),
    ],
)
def test_what_would_command_a_terminal_is_shown(text, shown):
    assert visible(text) == shown
    visible(text).encode()


@given(st.text())
def test_json_stays_what_it_was(text):
    assert json.loads(visible(json.dumps({text: text}, ensure_ascii=False))) == {text: text}


def test_an_error_is_one_harmless_line(capsys):
    complain("a\x1b[2J\nmull: b")
    assert capsys.readouterr().err == "mull: a\\u001b[2J mull: b\n"


def test_a_console_shows_foreign_text_and_keeps_its_own_colours():
    console = SafeConsole(file=io.StringIO(), force_terminal=True, color_system="standard", width=80)
    from rich.table import Table

    table = Table("name\x1b[5m")
    table.add_row("cell\x1b]0;title\x07")
    console.print("[red]own[/]", "foreign\x1b[2J", table)
    shown = console.file.getvalue()
    assert "\x1b[31mown" in shown
    for foreign in ("\x1b[2J", "\x1b[5m", "\x1b]0"):
        assert foreign not in shown
    assert "foreign\\u001b" in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<script>alert(1)</script>", "\\<script\\>alert(1)\\</script\\>"),
        ("a|b\nc", "a\\|b c"),
        ("[click](http://x)", "[click\\](http://x)"),
        ("![x][y]", "![x\\][y]"),
        ("[−1.2, 3.4]", "[−1.2, 3.4]"),
        ("&lt;b&gt; ~~x~~ `y` $z$", "\\&lt;b\\&gt; \\~\\~x\\~\\~ \\`y\\` \\$z\\$"),
        ("# head", "\\# head"),
    ],
)
def test_markdown_shows_text_as_it_is(text, shown):
    assert markdown(text) == shown


@pytest.mark.parametrize(
    "text", ["=1+1", "@SUM(1)", "+cmd|' /C calc'!A0", "-2+3", "\t=1", "\r\n=1", " =1", "＝1+1", "＠x", "-", "-1-1"]
)
def test_a_formula_is_text(text):
    assert csv_cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["0.5", "-0.2", "+3", "-1e-5", "λ = 1", "a=b", "", "−3", "easy"])
def test_numbers_and_words_stay(text):
    assert csv_cell(text) == text


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"])))
@example("true")
@example("null")
@example("1e5")
@example("😀 \x9b")
def test_yaml_is_read_back(text):
    assert str(reader.safe_load(f"key: {yaml(text)}")["key"]) == text


def test_yaml_leaves_names_bare():
    assert yaml("Qwen/Qwen3-4B-Thinking-2507") == "Qwen/Qwen3-4B-Thinking-2507"
    assert yaml("a: b\n```") == '"a: b\\n```"'


def test_a_terminal_without_an_encoding_for_it_shows_something(monkeypatch):
    assert visible(os.fsdecode(b"name\xff")).encode() == b"name\\udcff"
