"""Tables as data: the numbers of the metrics, readable back; LaTeX that compiles where it can be checked by eye."""

import io
import re
import shutil
import subprocess
from dataclasses import replace

import polars
import pytest

from mull.analysis.metrics import metrics
from mull.analysis.paired import paired_difference
from mull.analysis.stages import stages_of_samples
from mull.errors import MullError
from mull.reports.build import write_report
from mull.reports.export import encode, tables
from mull.reports.renderers import latex
from mull.reports.table import Cell, Column, Row, Table
from mull.runs.store import RunStore

from .conftest import make_run


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    with make_run(tmp_path_factory.mktemp("run"), questions=12, k=2) as store:
        return store.samples()


def test_the_numbers_are_those_of_the_metrics(samples):
    found = tables(samples)
    assert list(found) == ["metrics", "strata", "cost", "contrasts", "neighbours", "stages"]
    for row, m in zip(found["metrics"].frame().iter_rows(named=True), metrics(samples), strict=True):
        assert row["setting"] == m.setting and row["lambda"] == m.lam
        assert row["mean_at_k"] == pytest.approx(m.mean_at_k.value)
        assert row["tokens_error"] == pytest.approx(m.tokens.error)
    first = found["contrasts"].frame().row(0, named=True)
    difference = paired_difference(samples, first["setting"], "1")
    assert first["reference"] == "1"
    assert first["accuracy"] == pytest.approx(difference.difference)
    assert first["tokens_low"] == pytest.approx(paired_difference(samples, first["setting"], "1", "tokens").low)
    assert first["p_value"] >= difference.p_value


def test_the_report_and_the_export_write_the_same_metrics(run_folder, tmp_path):
    with RunStore.open(run_folder) as store:
        samples = store.samples()
        write_report(store, tmp_path, formats=("html",))
    exported = tables(samples)
    for name, file in (("metrics", "metrics.csv"), ("strata", "metrics-by-stratum.csv")):
        ours = polars.read_csv(encode(exported[name], "csv"))
        theirs = polars.read_csv(tmp_path / file)
        assert ours.columns == theirs.columns
        # The report orders strata by difficulty, the export by name.
        keys = ["stratum", "setting"]
        ours, theirs = ours.sort(keys), theirs.sort(keys)
        for column in ours.columns:
            assert ours[column].equals(theirs[column]), column
        counts = ("benchmark", "stratum", "setting", "questions", "samples", "k")
        shares = [c for c in ours.columns if not c.startswith("tokens") and c not in counts]
        assert all(0 <= v <= 1 for c in shares for v in ours[c].drop_nulls())
        assert all(re.fullmatch("[a-z][a-z0-9_]*", column) for column in ours.columns)


def test_neighbours_and_stages_are_those_of_the_report(samples):
    found = tables(samples)
    lams = [m.setting for m in metrics(samples) if m.lam is not None]
    rows = list(found["neighbours"].frame().iter_rows(named=True))
    assert [(row["setting"], row["reference"]) for row in rows] == list(zip(lams[1:], lams[:-1], strict=True))
    assert rows[0]["accuracy"] == pytest.approx(paired_difference(samples, lams[1], lams[0]).difference)
    assert rows[-1]["tokens_high"] == pytest.approx(paired_difference(samples, lams[-1], lams[-2], "tokens").high)
    stages = stages_of_samples(samples)
    rows = {row["boundary"]: row for row in found["stages"].frame().iter_rows(named=True)}
    assert stages.grid == (rows["grid rule: first"]["lambda"], rows["grid rule: last"]["lambda"])
    assert rows["grid rule: first"]["lambda_low"] is None
    if stages.fit and stages.fit.identified:
        assert rows["midpoint"]["lambda"] == stages.fit.midpoint
        assert (rows["midpoint"]["lambda_low"], rows["midpoint"]["lambda_high"]) == stages.intervals["midpoint"]
    flat = [s for s in samples if s.lam == 0] + [replace(s, setting="0.1", lam=0.1) for s in samples if s.lam == 0]
    assert "stages" not in tables(flat)


def test_what_graders_say_beyond_right_and_wrong_is_a_table(samples):
    assert "scores" not in tables(samples)
    scored = [replace(s, scores={"as_it_stands": float(s.index == 0)} if s.lam == 1 else {}) for s in samples]
    first, *_, last = tables(scored)["scores"].frame().iter_rows(named=True)
    assert first["setting"] == "0" and first["unclosed_as_it_stands"] is None
    assert last["setting"] == "1" and last["unclosed_as_it_stands"] == 0.5
    mean = next(m.mean_at_k.value for m in metrics([s for s in scored if s.finish == "stop"]) if m.setting == "1")
    assert last["completed_only"] == pytest.approx(mean)


def test_cost_adds_up(samples):
    cost = tables(samples)["cost"].frame()
    assert cost["tokens"].sum() == sum(sample.tokens for sample in samples)
    assert cost["responses"].sum() == len(samples)


def test_csv_and_parquet_read_back(samples):
    for name, table in tables(samples).items():
        frame = table.frame()
        assert polars.read_parquet(io.BytesIO(encode(table, "parquet"))).equals(frame), name
        again = polars.read_csv(encode(table, "csv"), schema_overrides={"setting": polars.String})
        assert again.columns == frame.columns and again.height == frame.height


def test_latex_has_a_cell_for_each_column_and_escapes_text(samples):
    table = tables(samples)["contrasts"]
    lines = latex(table).splitlines()
    rows = [line for line in lines if line.endswith("\\\\")]
    assert len(rows) == len(table.rows) + 1
    assert len({line.count("&") for line in rows}) == 1
    columns = [Column(key="x", head="x")]
    odd = Table(
        name="odd", title="", caption="", head="setting", columns=columns, rows=[Row("50 % & α_1 #\\~", [Cell()])]
    )
    assert r"{50 \% \& α\_1 \#\textbackslash{}\textasciitilde{}} & --" in latex(odd)


def test_an_unknown_reference_and_one_setting(samples):
    with pytest.raises(MullError, match=r"no samples of setting '0\.33'"):
        tables(samples, "0.33")
    alone = [sample for sample in samples if sample.setting == "1"]
    assert "contrasts" not in tables(alone)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX here")
def test_latex_compiles(samples, tmp_path):
    body = "\n".join(latex(table) for table in tables(samples).values())
    document = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\\tiny " + body + "\\end{document}"
    (tmp_path / "t.tex").write_text(document)
    subprocess.run(["pdflatex", "-halt-on-error", "t.tex"], cwd=tmp_path, check=True, capture_output=True)
