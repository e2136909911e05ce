"""The tables' numbers: the published ones exactly where the samples have them, else by hand."""

import math

import pytest
from scipy.stats import t as student

from mull.analysis.tables import PublishedRow
from mull.engines.base import Sampling
from mull.errors import MullError
from mull.merging.coefficients import Coefficients
from mull.reports.build import write_report
from mull.reports.html import sections
from mull.reports.paper import names
from mull.reports.paper.further import further_tables
from mull.reports.paper.runs import open_runs
from mull.reports.paper.tables import comparison, decoding, paper_tables
from mull.reports.table import Cell
from mull.runs.paper import studies
from mull.runs.settings import Setting
from mull.runs.store import RunStore

from .conftest import NAMES


def by_name(tables):
    return {table.name: table for table in tables}


def shown(table, row):
    """The numbers of a row as they are shown: shares in percent."""
    return [column.scale * cell.value for column, cell in zip(table.columns, row.cells, strict=True)]


def test_published_numbers_come_out_as_published(like_the_paper):
    table = comparison(open_runs(like_the_paper).arenas, overlay=True)
    assert [column.group for column in table.columns[::4]] == ["AIME’25", "IFEval", "GPQA-Diamond"]
    heads = [column.head for column in table.columns]
    assert heads[:4] == ["Mean@64", "Pass@64", "Token #N", "Think #R"]
    assert heads[8:10] == ["Mean@8", "Vote@8"]
    ours = {row.name: row for row in table.rows if row.section == "These runs"}
    theirs = {row.name: row for row in table.rows if row.section.startswith("Published: Qwen3-4B")}
    assert list(ours) == list(theirs)
    assert list(ours)[:7] == ["Instruct", "Thinking", "TA", "TA-Base", "TIES", "TIES-Base", "MI-0.2"]
    for name, row in ours.items():
        own = [round(value, column.decimals) for value, column in zip(shown(table, row), table.columns, strict=True)]
        assert own == pytest.approx([round(value, 1) for value in shown(table, theirs[name])]), name
    assert shown(table, theirs["MI-0.8"])[:4] == pytest.approx([80.5, 93.3, 17574, 99.9])
    # The paper's own example of a tie: 80.5 against 80.4 on 30 questions.
    marks = {name: row.cells[0].mark for name, row in ours.items()}
    assert marks["MI-0.8"] == marks["Thinking"] == "near-best" and "best" not in marks.values()
    assert not any(cell.mark for row in theirs.values() for cell in row.cells)
    plain = comparison(open_runs(like_the_paper).arenas, overlay=False)
    assert {row.section for row in plain.rows} == {""} and len(plain.rows) == len(ours)


def test_benchmarks_without_a_setting_have_empty_cells(run, answers, tmp_path):
    folders = []
    for benchmark, lams in (("sums", (0.0, 0.3)), ("other", (0.0, 1.0))):
        grid = [Setting.of(Coefficients.scalar(lam)) for lam in lams]
        samples = [s for lam in lams for s in answers(f"{lam:g}", lam, [1, 1, 0], 2, benchmark=benchmark)]
        folders.append(run(tmp_path / benchmark, grid, samples, benchmark=benchmark))
    table = comparison(open_runs(folders).arenas, overlay=True)
    rows = {row.name: shown(table, row) for row in table.rows}
    assert list(rows) == ["Instruct", "Thinking", "MI-0.3"]
    assert rows["Instruct"][:4] == pytest.approx([100 / 3, 200 / 3, 100, 0])
    assert all(map(math.isnan, rows["Thinking"][:4])) and all(map(math.isnan, rows["MI-0.3"][4:]))
    frame = table.frame()
    assert frame["sums_mean_at_k"].to_list() == pytest.approx([1 / 3, None, 1 / 3])
    assert frame.columns[:3] == ["method", "sums_mean_at_k", "sums_mean_at_k_error"]


@pytest.fixture
def layers(run, answers, tmp_path):
    """A layer study of so many layers, all at one accuracy; the same folder is there for the asking."""

    def write(count, lam=0.8, benchmark="aime25"):
        folder = tmp_path / f"layers{count}{lam}{benchmark}"
        if folder.exists():
            return folder
        held = [name for name in NAMES if int(name.split(".")[2]) < count]
        settings = studies.layer_settings(lam, held)
        samples = [s for x in settings for s in answers(x.label, None, [2, 1, 0], 2, think=0.5, benchmark=benchmark)]
        return run(folder, settings, samples, benchmark=benchmark)

    return write


@pytest.mark.parametrize("count", [36, 6, 7])
def test_the_same_share_of_the_layers_is_published(layers, count):
    (table,) = paper_tables(open_runs([layers(count)]), overlay=True)
    assert table.columns[-1].group == "Published: Qwen3-4B, Wu et al. 2025, AIME’25"
    # Of 6 layers, [2, 3] are the middle third: 54.69 / 10.57 / 20679 of [12, 23].
    rows = {row.name: shown(table, row)[-3:] for row in table.rows}
    middle = {36: "[12, 23]", 6: "[2, 3]", 7: "[2, 4]"}[count]
    assert rows[middle] == pytest.approx([54.69, 10.57, 20679])
    assert rows["all layers"] == pytest.approx([80.47, 99.95, 17574])
    assert all(value == value for row in rows.values() for value in row)
    assert ("the same share of 36 layers" in table.caption) == (count != 36)
    assert shown(table, table.rows[0])[:4] == pytest.approx([50, 200 / 3, 50, 100])


def test_other_ranges_have_no_published_values(run, answers, tmp_path):
    # Of a model of 6 layers, say: 0-1 is no two thirds of it.
    settings = studies.layer_settings(0.8, NAMES, [(0, 1), (2, 2)])
    samples = [s for x in settings for s in answers(x.label, None, [2, 1, 0], 2)]
    opened = open_runs([run(tmp_path / "own", settings, samples, benchmark="aime25")])
    (table,) = paper_tables(opened, overlay=True)
    assert {column.group for column in table.columns} == {"AIME’25"}


def test_published_rows_have_the_same_lambda_and_benchmark_and_can_be_left_out(layers):
    for folder, overlay in ((layers(36, 0.5), True), (layers(36, benchmark="math500"), True), (layers(36), False)):
        (table,) = paper_tables(open_runs([folder]), overlay=overlay)
        assert {column.group for column in table.columns} <= {"AIME’25", "MATH-500"}


def test_a_report_shows_the_think_ratio_published_on_its_benchmark_alone(run, answers, tmp_path):
    grid = [Setting.of(Coefficients.scalar(lam)) for lam in (0.0, 1.0)]
    for benchmark in ("gpqa", "math500"):
        samples = [s for lam in (0.0, 1.0) for s in answers(f"{lam:g}", lam, [1, 1, 0], 2, benchmark=benchmark)]
        with RunStore.open(run(tmp_path / benchmark, grid, samples, benchmark=benchmark)) as store:
            path = write_report(store, tmp_path / f"{benchmark}-report", formats=("html",))[0]
        text = path.read_text()
        assert ("Dashed: published" in text) == (benchmark == "gpqa")
        assert "ifeval" not in text and "aime25" not in text


def test_the_report_of_one_run_shows_the_published_ablation_too(layers, tmp_path):
    for overlay in (True, False):
        with RunStore.open(layers(6)) as store:
            pages = write_report(store, tmp_path / f"{overlay}", formats=("html",), overlay=overlay)
        text = pages[0].read_text()
        assert ("<td>54.69</td>" in text and "published Think #R, %" in text) == overlay


def test_the_report_says_where_its_published_rows_come_from(layers, tmp_path, monkeypatch):
    def text(name):
        with RunStore.open(layers(6)) as store:
            return write_report(store, tmp_path / name, formats=("html",))[0].read_text()

    real = text("real")
    assert "published Mean@64, %" in real
    assert "Published: Qwen3-4B, Wu et al. 2025, on AIME’25, at this λ; the same share of its 36 layers." in real
    row = PublishedRow(lam=0.8, benchmark="ifeval", k=8, mean_at_k=0.5)
    monkeypatch.setattr(sections, "published_setting", lambda plan, setting: row)
    other = text("other")
    assert "published Mean@8, %" in other and "on IFEval, at this λ" in other


def test_modules_and_backbones(run, answers, tmp_path):
    modules = studies.module_settings(0.8, NAMES)
    backbones = studies.backbone_settings(0.8, ["base", "mine"])
    folders = []
    for name, settings in (("m", modules), ("b", backbones)):
        samples = [s for x in settings for s in answers(x.label, None, [2, 2, 1], 2, benchmark="aime25")]
        folders.append(run(tmp_path / name, settings, samples, benchmark="aime25"))
    tables = by_name(paper_tables(open_runs(folders), overlay=True))
    assert not any("36 layers" in table.caption for table in tables.values())
    rows = {row.name: shown(tables["modules-aime25"], row) for row in tables["modules-aime25"].rows}
    assert rows["w/o FFN"][-3:-1] == pytest.approx([51.88, 0.68]) and math.isnan(rows["w/o FFN"][-1])
    assert all(map(math.isnan, rows["only norm"][-3:]))
    rows = {row.name: shown(tables["backbone-aime25"], row)[-3] for row in tables["backbone-aime25"].rows}
    assert rows == pytest.approx({"Instruct": 80.47, "Base": 67.7, "Mine": math.nan}, nan_ok=True)


@pytest.fixture
def decoded(run, answers, tmp_path):
    """Two temperatures × two top-p; right answers 3, 2, 2 and 1 of 6. T = 0.6, top-p 0.95 is the plan's own."""
    settings = studies.decoding_settings(0.4, Sampling(max_tokens=512), [0.7, 0.6], [0.8, 0.95])
    rights = [[1, 1, 1], [1, 1, 0], [2, 0, 0], [1, 0, 0]]
    samples = [s for x, right in zip(settings, rights, strict=True) for s in answers(x.label, None, right, 2)]
    return run(tmp_path / "decoding", settings, samples, benchmark="ifeval")


def test_decoding_is_a_grid(decoded):
    (found,) = open_runs([decoded]).runs
    table = decoding(found, overlay=True)
    assert [column.head for column in table.columns] == ["top-p 0.8", "top-p 0.95"] * 2
    assert {row.name: shown(table, row)[:2] for row in table.rows} == {
        "T = 0.6": pytest.approx([100 / 3, 100 / 6]),
        "T = 0.7": pytest.approx([50, 100 / 3]),
    }
    # 1/2 − (1/2, 0, 0): differences of 0, 1/2, 1/2, mean 1/3, error 1/6.
    assert "Largest less smallest Mean@k: 33.3 ± 16.7 points" in table.caption
    assert table.caption.endswith("Published (Qwen3-4B, Wu et al. 2025): 1.6.")
    assert "Published" not in decoding(found, overlay=False).caption


def test_kinds_of_thinking_failures_and_cost(run, answers, tmp_path):
    grid = [Setting.of(Coefficients.scalar(lam)) for lam in (0.0, 1.0)]
    samples = answers("0", 0.0, [2, 0, 0], 2, tokens=10, seconds=0.25)
    samples += answers("1", 1.0, [2, 2, 0], 2, tokens=30, think=0.5, finish="length")
    tables = by_name(further_tables(open_runs([run(tmp_path / "run", grid, samples)])))
    rows = {row.name: shown(tables["thinking"], row) for row in tables["thinking"].rows}
    assert rows["Thinking"] == pytest.approx([50, 50, 0, 0, 0, 100, 0])  # none, closed, forced, …, cut off, no answer
    rows = {row.name: shown(tables["cost"], row) for row in tables["cost"].rows}
    assert rows["Instruct"] == pytest.approx([6, 10, 10, 30, 60, 0.25, 0.75])
    assert rows["Thinking"] == pytest.approx([6, 30, 30, 45, 180, 0.5, 0.75])


def test_differences_are_from_the_reference_and_corrected(run, answers, tmp_path):
    lams = {0.0: [0] * 6, 0.5: [1, 2, 2, 1, 2, 2], 1.0: [1, 1, 2, 1, 2, 2]}
    grid = [Setting.of(Coefficients.scalar(lam)) for lam in lams]
    samples = [s for lam, right in lams.items() for s in answers(f"{lam:g}", lam, right, 2, tokens=int(10 + lam))]
    opened = open_runs([run(tmp_path / "run", grid, samples, questions=6)])
    table = by_name(further_tables(opened))["significance"]
    assert [row.name for row in table.rows] == ["Instruct − Thinking", "MI-0.5 − Thinking"]
    low, half = table.rows
    # −1/2, −1/2, −1, −1/2, −1, −1 and 0, 1/2, 0, 0, 0, 0.
    assert (low.cells[0].value, half.cells[0].value) == pytest.approx((-0.75, 1 / 12))
    # Differences of 1/12 with standard error 1/12, t = 2.570582 at 97.5 % with 5 degrees.
    assert half.cells[0].high == pytest.approx(1 / 12 + 2.570582 / 12, rel=1e-6)
    # Holm: times 2 for the smaller p. t is −0.75 / √(0.075/6) and 1.
    assert low.cells[1].value == pytest.approx(2 * 2 * student.cdf(-0.75 / math.sqrt(0.0125), 5), rel=1e-6)
    assert half.cells[1].value == pytest.approx(2 * student.cdf(-1, 5))
    assert low.cells[2] == Cell(-1, note="on every question")
    other = by_name(further_tables(opened, "0.5"))["significance"]
    assert [row.name for row in other.rows] == ["Instruct − MI-0.5", "Thinking − MI-0.5"]
    with pytest.raises(MullError, match=r"no sweep or comparison has the setting '0\.55'"):
        further_tables(opened, "0.55")


def test_decoding_is_compared_with_the_plans_own_sampling(decoded):
    table = by_name(further_tables(open_runs([decoded])))["significance"]
    assert {row.name.partition(" − ")[2] for row in table.rows} == {"T 0.6, top-p 0.95"}


@pytest.mark.parametrize(
    "setting, lam, name",
    [
        ("0", 0.0, "Instruct"),
        ("1", 1.0, "Thinking"),
        ("0.45", 0.45, "MI-0.45"),
        ("ta", None, "TA"),
        ("ties-base", None, "TIES-Base"),
        ("slerp 0.8", None, "SLERP-0.8"),
        ("my merge", None, "my merge"),
    ],
)
def test_names_of_methods(setting, lam, name):
    assert names.method_name(setting, lam) == name


def test_a_stopped_run_has_neither_marks_nor_intervals(run, answers, tmp_path):
    lams = {0.0: [0] * 6, 0.5: [1, 2, 2, 1, 2, 2], 1.0: [1, 1, 2, 1, 2, 2]}
    grid = [Setting.of(Coefficients.scalar(lam)) for lam in lams]
    samples = [s for lam, right in lams.items() for s in answers(f"{lam:g}", lam, right, 2)]
    for name, last in (("whole", None), ("half", -2), ("cut", -1)):
        opened = open_runs([run(tmp_path / name, grid, samples[:last], questions=6)])
        table = comparison(opened.arenas, overlay=False)
        found = by_name(further_tables(opened))["significance"]
        marks = {cell.mark for row in table.rows for cell in row.cells}
        tested = [cell for row in found.rows for cell in row.cells[:3] if cell.low == cell.low or cell.note]
        p_values = [row.cells[1].value for row in found.rows if row.cells[1].value == row.cells[1].value]
        assert bool(marks - {""}) == bool(tested) == bool(p_values) == (last is None), name
        assert ("the run is incomplete" in found.caption) == (last is not None)
        assert [row.cells[3].value for row in found.rows] == [5 if name == "half" else 6] * 2
    # One sample is lacking: Pass@2 would be that of some settings only.
    assert [column.head for column in table.columns] == ["Mean@k", "Token #N", "Think #R"]


def test_pass_at_k_says_its_k(run, answers, tmp_path):
    grid = [Setting.of(Coefficients.scalar(lam)) for lam in (0.0, 1.0)]
    samples = answers("0", 0.0, [1, 1, 1], 4) + answers("1", 1.0, [1, 1, 1], 4)[:-1]
    table = comparison(open_runs([run(tmp_path / "r", grid, samples, k=4)]).arenas, overlay=False)
    assert [column.head for column in table.columns] == ["Mean@k", "Pass@3", "Token #N", "Think #R"]
    assert "3 questions × 4 samples (Pass@3: of so many every question has an answer)" in table.caption


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("first", [[1, 1, 1], None])
def test_no_spread_where_nothing_can_be_paired(run, answers, tmp_path, first):
    settings = studies.decoding_settings(0.4, Sampling(max_tokens=512), [0.6], [0.8, 0.95])
    low, high = (x.label for x in settings)
    # Two settings that share no question; one setting alone.
    samples = answers(low, None, [2, 2, 2], 2)[:2] + answers(high, None, [0, 0, 0], 2)[2:] if first else []
    samples = samples or answers(low, None, [1, 1, 1], 2)
    (found,) = open_runs([run(tmp_path / "d", settings, samples)]).runs
    assert decoding(found, overlay=True).caption.endswith("clustered by question.")
    alone = studies.decoding_settings(0.4, Sampling(max_tokens=512), [0.6], [0.8])
    (found,) = open_runs([run(tmp_path / "e", alone, answers(low, None, [1, 1, 1], 2))]).runs
    assert found.complete and "Largest" not in decoding(found, overlay=True).caption


def test_settings_that_share_a_name_keep_their_rows(run, answers, tmp_path):
    backbones = studies.backbone_settings(0.8, ["base", "Base"])
    samples = [s for x in backbones for s in answers(x.label, None, [2, 2, 1], 2)]
    opened = open_runs([run(tmp_path / "b", backbones, samples)])
    tables = by_name(paper_tables(opened, overlay=False) + further_tables(opened))
    for name in ("backbone-sums", "thinking", "cost"):
        assert [row.name for row in tables[name].rows] == ["Instruct", "base", "Base"], name
    assert [row.name for row in tables["significance"].rows] == ["base − Instruct", "Base − Instruct"]
    assert "the same difference, or there is only one." in tables["significance"].caption
