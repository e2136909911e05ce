from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars
import pytest
import typer
from typer.testing import CliRunner

from mull.cli.verbs.report import report
from mull.errors import MullError
from tests.reports import conftest as runs

app = typer.Typer()
app.command()(report)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "run"
    runs.make_run(folder, (0, 0.4, 0.5, 0.6, 1), 12, 2, others=["[bold]ta"]).__exit__()
    return folder


def test_prints_the_table_stages_words_and_paths(run):
    result = CliRunner().invoke(app, [str(run)], env={"COLUMNS": "80"})
    assert result.exit_code == 0
    for text in ("Mean@2 %", "Pass@2 %", "Token #N", "0.5", "[bold]ta", "stage 2 by", "Thinking emerges", " ± "):
        assert text in result.stdout
    assert "incomplete" not in result.stdout
    paths = [Path(line) for line in result.stdout.splitlines() if line.startswith(str(run))]
    assert paths[0] == run / "report" / "report.html" and all(path.is_file() for path in paths)


def test_out_k_and_parquet(run, tmp_path):
    arguments = [str(run), "-k", "1", "--out", str(tmp_path / "o"), "--parquet", str(tmp_path / "s.parquet")]
    result = CliRunner().invoke(app, [*arguments, "--no-overlay"])
    assert result.exit_code == 0 and "Pass@" not in result.stdout
    assert (tmp_path / "o" / "report.html").is_file()
    assert polars.read_parquet(tmp_path / "s.parquet").height == 6 * 12 * 2
    assert "published" not in (tmp_path / "o" / "report.html").read_text()


def test_incomplete_run(tmp_path):
    runs.make_run(tmp_path / "run", (0, 1), 6, 2, stop=15).__exit__()
    result = CliRunner().invoke(app, [str(tmp_path / "run")])
    assert result.exit_code == 0 and "incomplete: 15 of 24 responses" in result.stdout


def test_errors_reach_the_entry_point(run, tmp_path):
    for arguments, text in (
        ([str(tmp_path / "none")], "holds no run"),
        ([str(run), "-k", "3"], "k must lie in"),
        ([str(run), "--parquet", str(tmp_path / "no" / "s.parquet")], "cannot write"),
    ):
        result = CliRunner().invoke(app, arguments)
        assert isinstance(result.exception, MullError) and text in str(result.exception)


def test_importing_the_verb_is_light():
    heavy = "{'polars', 'torch', 'transformers', 'altair', 'vl_convert'}"
    code = f"import sys, mull.cli.verbs.report; print(*{heavy} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
