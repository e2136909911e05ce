from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from mull.cli.verbs.stages import stages
from mull.errors import MullError

app = typer.Typer()
app.command()(stages)

TABLE = """method,lambda,benchmark,think_ratio
Instruct,0,smooth,0
MI,0.4,smooth,4
MI,0.5,smooth,50
MI,0.6,smooth,96
Thinking,1,smooth,100
TA,,others,50
Instruct,0,flat,0
MI,0.5,flat,1
MI,0.7,flat,2
Thinking,1,flat,3
Instruct,0,sharp,0
MI,0.4,sharp,0
MI,0.6,sharp,100
Thinking,1,sharp,100
"""


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(TABLE)
    return path


def test_json(table):
    result = CliRunner().invoke(app, [str(table), "--json"])
    assert result.exit_code == 0
    found = json.loads(result.stdout, parse_constant=pytest.fail)
    assert list(found) == ["smooth", "flat", "sharp"]
    assert found["smooth"]["found"]
    assert found["smooth"]["grid"] == [0.4, 1]
    assert found["smooth"]["fit"]["midpoint"] == pytest.approx(0.5, abs=0.01)
    assert found["flat"] == {"found": False, "reason": found["flat"]["reason"], "grid": None, "fit": None}
    assert "never reaches 99 % (highest 3 % at λ = 1)" in found["flat"]["reason"]
    assert found["sharp"]["fit"]["width"] is None
    assert found["sharp"]["fit"]["bracket"] == [0.4, 0.6]


def test_table_in_words(table):
    result = CliRunner().invoke(app, [str(table)])
    assert result.exit_code == 0
    assert "[0.4, 1]" in result.stdout
    assert "flat: no transition found: Think #R never reaches 99 %" in result.stdout
    assert re.search(r"flat\s+no transition", result.stdout)
    assert "within [0.4, 0.6]" in result.stdout


def test_strata_are_groups_of_their_own(tmp_path):
    path = tmp_path / "metrics-by-stratum.csv"
    rows = [
        f"toy,{stratum},{lam},{ratio}"
        for stratum, shift in (("easy", 0), ("hard", 0.2), ("", 0.1))
        for lam, ratio in ((-0.5, 0), (0, 0), (0.4 + shift, 0.04), (0.5 + shift, 1), (1.5, 1))
    ]
    path.write_text("\n".join(["benchmark,stratum,lambda,think_ratio", *rows]))
    result = CliRunner().invoke(app, [str(path), "--json"])
    assert result.exit_code == 0
    grids = {name: found["grid"] for name, found in json.loads(result.stdout).items()}
    assert grids == {"toy/easy": [0.4, 0.5], "toy/hard": [0.6000000000000001, 0.7], "toy": [0.5, 0.6]}
    path.write_text("\n".join(["benchmark,stratum,lambda,think_ratio", *rows[:5]]))
    assert list(json.loads(CliRunner().invoke(app, [str(path), "--json"]).stdout)) == ["toy"]


def test_errors_reach_the_entry_point(tmp_path):
    result = CliRunner().invoke(app, [str(tmp_path / "none.csv")])
    assert isinstance(result.exception, MullError)


def test_a_ragged_row_is_named_with_its_file_and_line(tmp_path):
    path = tmp_path / "ragged.csv"
    path.write_text(TABLE.replace("MI,0.5,smooth,50", "MI,0.5,smooth"))
    result = CliRunner().invoke(app, [str(path)])
    assert isinstance(result.exception, MullError)
    assert f"{path}, line 4 has 3 cells where the header has 4" in str(result.exception)


def test_importing_the_verb_is_light():
    code = (
        "import sys, mull.cli.verbs.stages; print(*{'polars', 'torch', 'transformers', 'altair'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
