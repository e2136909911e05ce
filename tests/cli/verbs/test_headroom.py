"""`mull headroom`: tables and verdict, JSON, several runs, refusals by the run's name."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from mull.analysis.choosing.headroom import headroom as measure
from mull.cli.verbs.headroom import headroom, in_a_line
from mull.errors import MullError
from mull.runs.store import RunStore
from tests.reports import conftest as runs

app = typer.Typer()
app.command()(headroom)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "run"
    runs.make_run(folder, (0, 0.4, 0.5, 0.6, 1), 30, 4, others=["ta"]).__exit__()
    return folder


def test_prints_both_oracles_and_a_verdict(run):
    result = CliRunner().invoke(app, [str(run)], env={"COLUMNS": "80"})
    assert result.exit_code == 0
    for text in ("best fixed λ: ", "by stratum", "by question", "gain, points", "at half of the tokens: easy"):
        assert text in result.stdout
    assert "could pay here" in result.stdout or "a fixed λ is as good" in result.stdout
    assert "ta" not in result.stdout.split()


def test_the_line_of_the_demo_is_the_oracle_by_stratum_at_half_of_the_tokens(run):
    with RunStore.open(run) as store:
        found = measure(store.samples(texts=False))
    half = next(gain for gain in found.oracles[0].gains if gain.share == 0.5)
    value = f"{100 * half.gain.value:+.1f} ({100 * half.gain.low:.1f} to".replace("-", "−")
    line = in_a_line(found)
    assert value in line and "the difficulty of each question" in line and f"{half.tokens:,.0f} tokens" in line


def test_json_holds_every_number_of_several_runs(run, tmp_path):
    runs.make_run(tmp_path / "other", (0, 1), 30, 2).__exit__()
    result = CliRunner().invoke(app, [str(run), str(tmp_path / "other"), "--json"])
    found = json.loads(result.stdout)
    assert list(found) == [str(run), str(tmp_path / "other")]
    first = found[str(run)]
    assert first["settings"] == ["0", "0.4", "0.5", "0.6", "1"]
    assert [oracle["kind"] for oracle in first["oracles"]] == ["stratum", "question"]
    for oracle in first["oracles"]:
        for gain in oracle["gains"]:
            assert gain["gain"]["value"] == pytest.approx(gain["accuracy"] - gain["static"])
            assert gain["gain"]["low"] <= gain["gain"]["high"]
        assert oracle["saving"]["saved"]["value"] == pytest.approx(1 - oracle["saving"]["tokens"] / first["tokens"])


def test_a_run_that_cannot_tell_is_named(tmp_path):
    runs.make_run(tmp_path / "single", (0, 1), 30, 1).__exit__()
    with pytest.raises(MullError, match=r"single: head-room needs 10 questions"):
        CliRunner().invoke(app, [str(tmp_path / "single")], catch_exceptions=False)
