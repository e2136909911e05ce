"""The written report: page, files, safety, incomplete runs."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from mull.analysis.metrics import metrics
from mull.analysis.paired import contrasts
from mull.analysis.stages import stages_of_table
from mull.analysis.tables import read_table
from mull.errors import MullError
from mull.reports.answer import answer
from mull.reports.build import write_report
from mull.reports.format import signed
from mull.reports.html.page import page
from mull.reports.html.render import encode
from mull.reports.html.responses import LONGEST, embed
from mull.reports.results import results
from mull.runs.store import RunStore
from mull.thinking import split_thinking

VOID = {"meta", "input", "br", "link", "img", "hr"}


class Page(HTMLParser):
    """Tags, their attributes, visible text and scripts of a page; checks that tags are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.text, self.open = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["script"]:
            self.scripts[-1] += data
        elif self.open[-1:] != ["style"]:
            self.text.append(data)

    @property
    def words(self):
        return re.sub(r"\s+", " ", " ".join(self.text))

    @property
    def data(self):
        return json.loads(self.scripts[0])


@pytest.fixture(scope="module")
def report(run_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "new" / "report"
    with RunStore.open(run_folder) as store:
        paths = write_report(store, folder)
    return folder, paths, Page((folder / "report.html").read_text())


def write(store, folder, **more):
    with store:
        paths = write_report(store, folder, formats=("html",), **more)
    return Page(paths[0].read_text())


def test_files(report):
    folder, paths, _ = report
    names = [str(path.relative_to(folder)) for path in paths]
    assert names[0] == "report.html"
    assert sorted(names[1:]) == sorted(
        [f"figures/{name}.{kind}" for name in ("stages", "frontier", "strata") for kind in ("svg", "png")]
        + ["metrics.csv", "metrics-by-stratum.csv"]
    )
    # Nothing half-written is left behind.
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == sorted(paths)
    assert (folder / "report.html").stat().st_mode & 0o044 == 0o044


def test_page_loads_nothing(report):
    _, _, page = report
    assert not {tag for tag, _ in page.tags} & {"link", "img", "iframe", "object", "image", "base"}
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "data", "action"):
            assert (attributes.get(name) or "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes)
    source = (report[0] / "report.html").read_text()
    assert "@import" not in source and "@font-face" not in source
    assert not re.search(r"url\((?!#)", source)


def test_page_is_accessible(report):
    _, _, page = report
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    pictures = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(pictures) == 2 * (3 + 2 + 3)  # stages, frontier (wide and narrow), strata; light and dark
    assert all(a["role"] == "img" and a["aria-label"] for a in pictures)
    targets = [a["href"][1:] for tag, a in page.tags if tag == "a"]
    assert set(targets) <= set(ids)
    labelled = [a["aria-labelledby"] for tag, a in page.tags if tag == "section"]
    assert labelled and set(labelled) <= set(ids)


def test_page_says_what_was_found(report, found):
    _, _, page = report
    words = page.words.replace("\u00a0", " ")
    assert "toy-instruct → toy-thinking" in words
    assert found.words in words
    m = found.sweep[5]
    for estimate, factor in ((m.mean_at_k, 100), (m.pass_at_k, 100), (m.tokens, 1)):
        assert f"{factor * estimate.value:.1f}" in words
    assert "Mean@4" in words and "Pass@4" in words
    low, high = found.stages.intervals["midpoint"]
    assert f"[{low:.3f}, {high:.3f}]" in words
    assert "cut off, %" in words and "no answer, %" in words
    assert "Incomplete" not in words
    assert "sampling.temperature" in words and "2.13.0" in words


@pytest.fixture(scope="module")
def overdone(found):
    """The run, but every other response at λ = 1 is wrong."""
    samples = [replace(s, correct=s.correct and (s.setting != "1" or s.index % 2 > 0)) for s in found.samples]
    return replace(found, samples=samples, metrics=metrics(samples), to_last=contrasts(samples, "1"))


def test_the_answer_comes_first(overdone, found):
    assert answer(found).pick.setting == "1" and answer(found).against is None
    words, best = Page(page(overdone)).words.replace("\u00a0", " "), answer(overdone)
    assert best.pick.setting == "0.8" and best.against.setting == "0.8" and best.against.reference == "1"
    assert words.index("Recommended λ = 0.8") < words.index("Thinking emerges")
    gain, cost = best.against.accuracy, best.against.tokens
    assert f"{signed(100 * gain.difference, 1)} points against λ = 1, 95 % interval [" in words
    assert f"{signed(100 * cost.difference / overdone.sweep[-1].tokens.value, 0)} % against λ = 1" in words
    command = "mull merge --instruct toy-instruct --thinking toy-thinking --lambda 0.8 -o merged"
    assert command in words and best.command == command


def test_no_answer_says_why(make, found, tmp_path):
    wrong = [replace(sample, correct=False) for sample in found.samples]
    none = answer(replace(found, samples=wrong, metrics=metrics(wrong)))
    assert none.pick is None and none.reason == "no response is right at any λ"
    words = Page(page(replace(found, samples=wrong, metrics=metrics(wrong)))).words
    assert "Recommended λ none no response is right" in words and "Make this model" not in words
    with make(tmp_path / "run", (0, 0.5, 1), 12, 2, stop=20) as store:
        begun = answer(results(store))
    assert begun.pick is None and begun.reason.startswith("two λ at least must be finished")
    with make(tmp_path / "more", (0, 0.5, 1), 12, 2, stop=50) as store:
        part = answer(results(store))
    assert part.pick.setting in ("0", "0.5") and part.reason.startswith("of those that are finished")
    with make(tmp_path / "study", (), 6, 2, others=("ta", "ties")) as store:
        assert answer(results(store)) is None


def test_the_command_is_quoted_and_names_the_donor(overdone):
    names = overdone.provenance | {"instruct": "my pair/in; rm", "thinking": "t"}
    given = answer(replace(overdone, provenance=names, plan=overdone.plan | {"donor": "instruct"}))
    assert "--instruct 'my pair/in; rm' --thinking t --lambda 0.8 --donor instruct -o merged" in given.command
    servers = answer(replace(overdone, provenance={"endpoints": {}}))
    assert servers.pick and servers.command == ""


def test_a_tie_is_called_a_tie(report, found):
    _, _, page = report
    ties = [each for each in (*found.to_last, *found.neighbours) if each.accuracy.tie]
    clear = [each for each in (*found.to_last, *found.neighbours) if not each.accuracy.tie]
    assert ties and clear
    text = page.words
    assert text.count(" tie ") == len(ties) + sum(e.tokens.tie for e in (*found.to_last, *found.neighbours))
    assert text.count(" higher ") == sum(e.accuracy.difference > 0 for e in clear)


def test_responses_are_embedded_as_they_are(report, found, run_folder):
    _, _, page = report
    data = page.data
    assert len(data["responses"]) == len(found.samples) == 2880
    assert not any(sample.text for sample in found.samples)  # read when they are shown
    with RunStore.open(run_folder) as store:
        by_key = {(s.setting, s.question, s.index): s for s in store.each()}
    for question, setting, index, thought, said, kind, tokens, finish, correct, extracted in data["responses"]:
        sample = by_key.pop((found.metrics[setting].setting, data["questions"][question]["id"], index))
        split = split_thinking(sample.text, finished=sample.finish == "stop")
        assert (thought, said, kind) == (split.thought, split.answer, sample.thinking)
        assert (tokens, finish, correct, extracted) == (sample.tokens, sample.finish, sample.correct, sample.answer)
    assert by_key == {}
    names = [data["settings"][i] for i in data["defaults"]]
    assert names[0] == "λ 0" and names[-1] == "λ 1" and "λ 0.5" in names
    assert "All 2,880 responses are here" in page.words


def test_hostile_text_stays_text(make, hostile, tmp_path):
    store = make(tmp_path / "run", (0, 0.5, 1), 6, 2, hostile=True, others=["<script>alert(2)</script>"])
    page = write(store, tmp_path / "out")
    assert len(page.scripts) == 2
    assert "alert" not in page.scripts[1]
    assert not any(tag in ("img", "i", "b") for tag, _ in page.tags)
    data = page.data
    question = next(q for q in data["questions"] if q["id"] == 'q"<b>')
    assert question["text"] == hostile and question["gold"] == "<i>0</i>"
    assert any(hostile.split("<!--")[0] in row[4] for row in data["responses"])
    assert "<script>alert(2)</script>" in page.words


def test_json_cannot_leave_its_element():
    value = {"a": "</script><!-- <script> & \u2028\u2029 \ud800 \\u003c"}
    text = encode(value)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text)["a"] == value["a"].replace("\ud800", "?")


def test_incomplete_run_is_marked(make, tmp_path):
    page = write(make(tmp_path / "run", (0, 0.5, 1), 12, 2, stop=41), tmp_path / "out")
    assert "Incomplete: 41 of 72 responses (57 %)" in page.words
    assert "of 72 planned" in page.words


def test_run_without_responses_is_refused(make, tmp_path):
    with make(tmp_path / "run", (0, 1), 6, 1, stop=0) as store, pytest.raises(MullError, match="no response yet"):
        write_report(store, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("lambdas, others, questions, k", [((0.5,), (), 6, 2), ((), ("ta",), 6, 2), ((0, 1), (), 1, 1)])
def test_small_runs_are_reported(make, tmp_path, lambdas, others, questions, k):
    page = write(make(tmp_path / "run", lambdas, questions, k, others=others), tmp_path / "out")
    assert "Accuracy over tokens" in page.words
    assert ("The three stages" in page.words) == bool(lambdas)
    assert "nan" not in page.words.lower().replace("provenance", "")


def test_further_scores_have_a_table_of_their_own(run_folder, report, tmp_path):
    assert "Further scores" not in report[2].words
    with RunStore.open(run_folder) as store:
        found = results(store)
    scored = [replace(s, scores={"as_it_stands": 1.0} if s.setting == "1" else {}) for s in found.samples]
    words = Page(page(replace(found, samples=scored))).words
    assert "Further scores setting completed only, % unclosed as it stands, %" in words
    assert re.search(r"unclosed as it stands, % λ 0 [\d.]+ ± [\d.]+ –", words) and "100.0 ± 0.0" in words


def test_no_transition_is_said(make, tmp_path):
    page = write(make(tmp_path / "run", (0, 0.1, 0.2, 0.3), 12, 2), tmp_path / "out")
    assert "No transition was found" in page.words
    assert "Shaded" not in page.words


def test_k_is_that_of_pass(run_folder, tmp_path):
    assert "Pass@2" in write(RunStore.open(run_folder), tmp_path, k=2).words
    with RunStore.open(run_folder) as store, pytest.raises(MullError, match=r"k must lie in \[1, 4\], got 5"):
        write_report(store, tmp_path / "out", k=5)


def test_bad_format_and_folder(run_folder, tmp_path):
    with RunStore.open(run_folder) as store:
        with pytest.raises(MullError, match=r"unknown report format 'pgn'.*png"):
            write_report(store, tmp_path, formats=("pgn",))
        (tmp_path / "file").write_text("")
        with pytest.raises(MullError, match="cannot make the folder"):
            write_report(store, tmp_path / "file" / "report", formats=("html",))


def test_nothing_is_published_on_the_benchmark_of_the_built_in_pair(report, run_folder, tmp_path):
    assert "published" not in report[2].words
    assert "published" not in write(RunStore.open(run_folder), tmp_path, overlay=False).words


def test_metrics_csv_is_exact_and_stages_reads_it(report, found):
    folder, _, _ = report
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    assert [row["setting"] for row in rows] == [m.setting for m in found.metrics]
    for row, m in zip(rows, found.metrics, strict=True):
        assert row["lambda"] == ("" if m.lam is None else str(m.lam))
        for name in ("mean_at_k", "pass_at_k", "vote_at_k", "tokens", "think_ratio", "truncation", "unanswered"):
            assert float(row[name]) == pytest.approx(getattr(m, name).value, rel=1e-5)
            assert float(row[f"{name}_error"]) == pytest.approx(getattr(m, name).error, rel=1e-5)
        for kind in m.thinking:
            assert float(row[f"thinking_{kind.replace('-', '_')}"]) == pytest.approx(m.thinking[kind].value, rel=1e-5)
    assert stages_of_table(read_table(folder / "metrics.csv")).grid == found.stages.grid
    strata = list(csv.DictReader((folder / "metrics-by-stratum.csv").open()))
    assert {row["stratum"] for row in strata} == {"easy", "medium", "hard"}


def test_big_runs_embed_a_fair_part_and_say_so(found):
    one_sample = sum(len(encode(list(row))) for row in embed(found).data["responses"]) // 4
    part = embed(found, int(one_sample * 2.5))
    rows = part.data["responses"]
    assert {row[2] for row in rows} == {0, 1} and len(rows) == 2 * 12 * 60
    assert "1,440 of 2,880 responses: the first 2 samples of 60 of 60 questions" in part.words
    few = embed(found, one_sample // 5)
    shown = {q["stratum"] for q in few.data["questions"]}
    assert 3 < len(few.data["questions"]) < 20 and shown == {"easy", "medium", "hard"}
    # Every question shown has every setting.
    assert len(few.data["responses"]) == 12 * len(few.data["questions"])
    assert len(json.dumps(few.data["responses"])) < one_sample // 4


def test_long_responses_lose_their_middle(make, tmp_path):
    from dataclasses import replace

    store = make(tmp_path / "run", (0, 1), 3, 1)
    with store:
        found = results(store)
    long = "a" * LONGEST + "b" * LONGEST + "c" * LONGEST
    samples = [replace(found.samples[0], text=long, thinking="none", finish="stop"), *found.samples[1:]]
    part = embed(replace(found, samples=samples))
    text = next(row[4] for row in part.data["responses"] if "aaa" in row[4])
    assert len(text) < LONGEST + 100 and text.startswith("aaa") and text.endswith("ccc")
    assert f"{2 * LONGEST:,} characters left out" in text
    assert "The middle of 1 very long responses is left out" in part.words
