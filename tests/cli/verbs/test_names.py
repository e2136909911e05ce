"""One thing under several names: what people type elsewhere works here, too."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from mull.cli.main import app
from mull.merging.methods import make
from mull.tiny import checkpoint_folder

ENDS = [str(checkpoint_folder("instruct")), str(checkpoint_folder("thinking"))]


def test_the_package_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "mull", "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("mull ")


@pytest.mark.parametrize(("alias", "name"), [("linear", "mi"), ("task_arithmetic", "ta")])
def test_methods_by_the_names_of_other_tools(alias, name):
    assert make(alias) == make(name)


@pytest.mark.parametrize("ends", [ENDS, ["--instruct", ENDS[0], "--thinking", ENDS[1]]], ids=["in order", "by name"])
def test_inspect_takes_both_ways(ends):
    result = CliRunner().invoke(app, ["inspect", *ends, "--no-sigma"])
    assert result.exit_code == 0 and "These two can be mixed" in result.stdout


@pytest.mark.parametrize("ends", [ENDS[:1], [*ENDS, ENDS[0]], [ENDS[0], "--thinking", ENDS[1]], []])
def test_inspect_refuses_any_other_number(ends, capsys):
    result = CliRunner().invoke(app, ["inspect", *ends, "--no-sigma"])
    assert result.exit_code == 2
    assert "two checkpoints are compared" in result.stderr + capsys.readouterr().err


def test_lists_as_json():
    found = json.loads(CliRunner().invoke(app, ["methods", "--json"]).stdout)
    assert found["methods"]["ties"]["parameters"]["density"] == 0.2 and found["methods"]["ties"]["about"]
    assert found["presets"]["mi-paper:ta-base"]["method"] == "ta"
    found = json.loads(CliRunner().invoke(app, ["benchmarks", "--json"]).stdout)
    assert found["benchmarks"]["aime25"]["questions"] == 30 and "letter-robust" in found["graders"]
