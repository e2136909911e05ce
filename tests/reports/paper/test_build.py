"""The folder as a whole: its files, its page, what is missing, and that it is there whole or not at all."""

import re
import shlex
from html.parser import HTMLParser
from pathlib import Path

import polars
import pytest

from mull.engines.base import Sampling
from mull.errors import MullError
from mull.merging.coefficients import Coefficients
from mull.reports.paper import build
from mull.reports.paper.build import write_paper
from mull.reports.paper.commands import command
from mull.reports.paper.missing import missing
from mull.reports.paper.runs import open_runs
from mull.runs.paper import studies
from mull.runs.plan import StudyKind
from mull.runs.settings import Setting

from .conftest import NAMES

DOCS = Path(__file__).parents[3] / "docs" / "reproduce.md"
VOID = {"meta", "br", "link", "img", "hr"}


class Page(HTMLParser):
    """Tags with attributes; checks that they are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] not in (["script"], ["style"]):
            self.text.append(data)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A sweep and a layer study of 3 questions × 2 samples, the sweep half done."""
    from .conftest import responses, write_run

    folder = tmp_path_factory.mktemp("runs")
    grid = [Setting.of(Coefficients.scalar(lam)) for lam in (0.0, 0.5, 0.6, 1.0)]
    swept = [s for lam in (0.0, 0.5, 0.6) for s in responses(f"{lam:g}", lam, [2, 1, 0], 2, think=lam > 0.5)]
    layers = studies.layer_settings(0.8, NAMES)
    ablated = [s for x in layers for s in responses(x.label, None, [2, 1, 1], 2)]
    return [write_run(folder / "swept & <b>", grid, swept), write_run(folder / "layers", layers, ablated)]


@pytest.fixture(scope="module")
def made(folders, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "new" / "paper"
    return out, write_paper(folders, out)


def test_only_what_the_runs_hold_is_written(made):
    out, paper = made
    names = {path.relative_to(out).as_posix() for path in paper.paths}
    figures = {
        f"figures/{name}{end}" for name in ("dynamics", "frontier-sums", "layers-sums") for end in (".svg", ".pdf")
    }
    tables = {
        f"tables/{name}{end}"
        for name in ("comparison", "layers-sums", "thinking", "significance", "cost")
        for end in (".tex", ".csv", ".parquet", ".md")
    }
    assert names == {"index.html"} | figures | tables
    assert {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()} == names | {"mull-files.json"}
    assert [path.name for path in out.parent.iterdir()] == ["paper"]
    assert out.stat().st_mode & 0o055 == 0o055
    assert (out / "figures" / "dynamics.pdf").read_bytes().startswith(b"%PDF")
    csv, parquet = (out / "tables" / f"layers-sums{end}" for end in (".csv", ".parquet"))
    assert polars.read_csv(csv)["own_mean_at_k"].to_list() == polars.read_parquet(parquet)["own_mean_at_k"].to_list()


def test_the_page_shows_all_and_loads_nothing(made):
    out, paper = made
    text = (out / "index.html").read_text()
    page = Page(text)
    assert not {tag for tag, _ in page.tags} & {"link", "img", "iframe", "object", "b base"}
    assert not re.search(r"url\((?!#)", text) and "@import" not in text
    ids = {a["id"] for _, a in page.tags if "id" in a}
    assert len([a for _, a in page.tags if "id" in a]) == len(ids)
    links = [a["href"] for tag, a in page.tags if tag == "a"]
    files = {path.relative_to(out).as_posix() for path in paper.paths} - {"index.html"}
    assert {link for link in links if not link.startswith("#")} == files
    assert {link[1:] for link in links if link.startswith("#")} <= ids
    assert sum(tag == "svg" for tag, _ in page.tags) == 2 * 2 * 3  # light and dark, wide and narrow
    words = " ".join(page.text)
    assert "swept & <b> (incomplete: 75 %)" in words and "Incomplete:" in words
    assert "no intervals and no p, no value is marked" in words
    assert "org/instruct → org/thinking" in words
    assert "n = 3 questions × 2 samples" in words and "Dashed: published" not in words


def test_what_is_missing_stands_with_its_command(made):
    _, paper = made
    assert [each.what for each in paper.missing] == [
        *("other ways to merge on sums", "modules on sums", "decoding on sums", "backbones on sums"),
    ]
    assert paper.missing[1].command == (
        "mull ablate modules --instruct org/instruct --thinking org/thinking --lambda 0.8 --benchmark FILE "
        "--grader GRADER --questions 3 --max-tokens 512 -k 2 --run modules"
    )


def test_the_commands_are_those_of_the_documentation(run, answers, tmp_path):
    grid = [Setting.of(Coefficients.scalar(0.0))]
    samples = answers("0", 0.0, [1, 1, 1], 2, benchmark="aime25")
    usual = {"benchmark": "aime25", "questions": 30, "k": 64, "sampling_record": Sampling().record()}
    found = missing(open_runs([run(tmp_path / "r", grid, samples, **usual)]))
    assert len(found) == 9
    text = DOCS.read_text()
    for each in found:
        command = each.command.replace("org/instruct", "$I").replace("org/thinking", "$T")
        command = re.sub(r"\bBASE\b", "$B", re.sub(r"\bHYBRID\b", "$H", command))
        assert command in text.splitlines(), each.what


def test_a_comparison_without_a_base_lacks_methods(run, answers, tmp_path):
    settings = studies.comparison_settings([0, 1], base=True, hybrid=False)
    samples = [s for x in settings for s in answers(x.label, x.lam, [1, 1, 0], 2)]
    found = missing(open_runs([run(tmp_path / "c", settings, samples)]))
    assert found[-1].what.startswith("TA, TIES and DARE from the hybrid model on sums")


def test_a_comparison_that_is_not_done_was_made_with_what_its_plan_names(run, answers, tmp_path):
    settings = studies.comparison_settings([0, 1], base=True, hybrid=True)
    found = missing(open_runs([run(tmp_path / "c", settings, answers("0", 0.0, [1, 1, 0], 2))]))
    assert not [each.what for each in found if "TA, TIES and DARE" in each.what]


def test_commands_can_be_run(run, answers, tmp_path):
    """The user's own questions are a file with a grader; what a database names is quoted."""
    settings = studies.comparison_settings([0, 1], base=False, hybrid=False)
    name = "my; rm -rf *"
    samples = answers("0", 0.0, [1, 1, 0], 2, benchmark=name)
    opened = open_runs([run(tmp_path / "c", settings, samples, benchmark=name)])
    opened.runs[0].plan["benchmark"]["grader"] = {"name": "exact; ls"}
    for each in missing(opened):
        words = shlex.split(each.command)
        assert words[words.index("--benchmark") + 1] == "FILE"
        assert words[words.index("--grader") + 1] == "exact; ls"
        assert ";" not in words[words.index("--run") + 1]
    opened = open_runs([run(tmp_path / "t", settings, samples, benchmark="tiny")])
    assert all(" --benchmark tiny -" in each.command for each in missing(opened))


def test_a_command_carries_the_options_of_the_run(run, answers, tmp_path):
    """Donor, sampling, seeds, questions, k, grader, data file, device and λ are those on record, of all commands."""
    grid = [Setting.of(Coefficients.scalar(lam)) for lam in (0.0, 0.3, 1.0)]
    samples = [s for lam in (0.0, 0.3, 1.0) for s in answers(f"{lam:g}", lam, [1, 1, 0], 3, benchmark="gpqa")]
    sampling = Sampling(temperature=0.0, top_p=0.5, top_k=0, max_tokens=100).record()
    asked = {"name": "gpqa", "questions": 3, "grader": {"name": "letter-robust"}}
    more = {"benchmark": "gpqa", "donor": "instruct", "seed": 7, "engine": "local/bfloat16/cuda", "k": 3}
    opened = open_runs([run(tmp_path / "gpqa", grid, samples, sampling_record=sampling, **more)])
    opened.runs[0].plan["benchmark"] = asked
    opened.runs[0].provenance["data"] = "my data/gpqa.csv"
    commands = {each.what: each.command for each in missing(opened)}
    common = "--max-tokens 100 --seed 7 --device cuda"
    assert commands["dynamics over λ on AIME’25"] == (
        "mull sweep --instruct org/instruct --thinking org/thinking --donor instruct --benchmark aime25 "
        f"--lambdas 0,0.3,1 --temperature 0 --top-p 0.5 --top-k 0 {common} -k 64 --run aime25"
    )
    assert f"--top-k 0 {common} -k 8 --run decoding" in commands["decoding on IFEval"]
    assert "--temperature" not in commands["decoding on IFEval"] and "--top-p" not in commands["decoding on IFEval"]
    opened.runs[0].plan["engine"] = "local/bfloat16/cpu"
    assert "--device cpu --dtype bfloat16" in command(opened.runs, StudyKind.compare, "gpqa", set())
    own = "--benchmark gpqa --data 'my data/gpqa.csv' --grader letter-robust --questions 3"
    assert own in command(opened.runs, StudyKind.compare, "gpqa", set())
    assert "--lambdas 0,0.3,1 " in command(opened.runs, StudyKind.compare, "gpqa", set())


def test_ablations_are_offered_at_the_λ_of_the_others(run, answers, tmp_path):
    layers = studies.layer_settings(0.65, NAMES)
    ablated = [s for x in layers for s in answers(x.label, None, [2, 1, 1], 2)]
    commands = {each.what: each.command for each in missing(open_runs([run(tmp_path / "l", layers, ablated)]))}
    assert " --lambda 0.65 " in commands["modules on sums"] and " --lambda 0.65 " in commands["backbones on sums"]
    assert " --lambda 0.4 " in commands["decoding on sums"]


def test_a_command_does_not_name_a_folder_that_is_one_of_the_runs(run, answers, tmp_path):
    settings = studies.comparison_settings([0, 1], base=True, hybrid=False)
    samples = [s for x in settings for s in answers(x.label, x.lam, [1, 1, 0], 2)]
    found = missing(open_runs([run(tmp_path / "compare", settings, samples)]))
    assert found[-1].command.endswith(" --run compare-2") and " --lambdas 0,1 " in found[-1].command


def test_names_of_benchmarks_are_no_markup(run, answers, tmp_path):
    """A benchmark is named by a file or by somebody's database: ids, links, files and labels take slugs."""
    folders = []
    names = ['q" onmouseover="alert(1)', "a\\d", "a d", "../up_%", "a-title"]
    for i, name in enumerate(names):
        grid = [Setting.of(Coefficients.scalar(lam)) for lam in (0.0, 1.0)]
        samples = [s for lam in (0, 1) for s in answers(f"{lam}", lam, [1, 1, 0], 2, benchmark=name)]
        layers = studies.layer_settings(0.8, NAMES)
        ablated = [s for x in layers for s in answers(x.label, None, [2, 1, 1], 2, benchmark=name)]
        folders += [run(tmp_path / f"s{i}", grid, samples, benchmark=name)]
        folders += [run(tmp_path / f"l{i}", layers, ablated, benchmark=name)] if i < 2 else []
    out = tmp_path / "out"
    paper = write_paper(folders, out)
    page = Page((out / "index.html").read_text())
    assert not [attrs for _, attrs in page.tags if "onmouseover" in attrs]
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids)) and all(re.fullmatch("[A-Za-z0-9_-]+", name) for name in ids)
    for _, attrs in page.tags:
        if "aria-labelledby" in attrs:
            assert attrs["aria-labelledby"] in ids
        if attrs.get("href", "#").startswith("#") is False:
            assert (out / attrs["href"]).is_file()
    stems = {path.stem for path in paper.paths}
    assert {"frontier-a-d", "frontier-a-d-2", "frontier-up", "layers-q-onmouseover-alert-1"} <= stems
    assert all(re.fullmatch("[a-z0-9-]+", stem) and path.is_file() for path in paper.paths for stem in [path.stem])
    assert "\\label{tab:layers-a-d}" in (out / "tables" / "layers-a-d.tex").read_text()


def test_the_report_of_one_run_knows_nothing_of_the_paper():
    for path in Path(build.__file__).parents[1].glob("*.py"):
        assert "mull.reports.paper" not in path.read_text(), path


def test_the_overlay_can_be_left_out(folders, tmp_path):
    write_paper(folders, tmp_path / "out", overlay=False)
    assert "ublished" not in (tmp_path / "out" / "index.html").read_text()


def test_it_is_written_whole_or_not_at_all(folders, tmp_path, monkeypatch):
    out = tmp_path / "paper"
    write_paper(folders[1:], out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def fail(*_):
        raise RuntimeError("stop")

    with monkeypatch.context() as patch:
        patch.setattr(build, "latex", fail)
        with pytest.raises(RuntimeError):
            write_paper(folders, out)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["paper"]
    write_paper(folders, out)  # its own folder is replaced
    assert (out / "figures" / "dynamics.svg").is_file()
    (out / "mine.txt").write_text("")
    with pytest.raises(MullError, match=r"holds something else \(mine.txt\). Choose another --out"):
        write_paper(folders, out)
    assert (out / "mine.txt").is_file()
    with pytest.raises(MullError, match="is a file"):
        write_paper(folders, out / "mine.txt")


def test_hostile_names_stay_text(run, answers, tmp_path):
    label = "<script>alert(1)</script>_%&"
    settings = [
        Setting.of(Coefficients.scalar(0.0)),
        Setting(label, studies.comparison_settings([], base=False, hybrid=False)[0].recipe),
    ]
    samples = [s for x in settings for s in answers(x.label, x.lam, [1, 0, 0], 2)]
    write_paper([run(tmp_path / "r", settings, samples)], tmp_path / "out")
    text = (tmp_path / "out" / "index.html").read_text()
    assert "<script>alert" not in text and "&lt;script&gt;alert(1)" in text
    row = "\\textless{}script\\textgreater{}alert(1)\\textless{}/script\\textgreater{}\\_\\%\\&"
    assert row in (tmp_path / "out" / "tables" / "comparison.tex").read_text()
