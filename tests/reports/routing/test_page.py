"""The page and the files of an evaluation of λ per query."""

from __future__ import annotations

import csv
import re
from itertools import pairwise

import pytest

from mull.dynamic.evaluation.comparison import break_even
from mull.reports.format import signed
from mull.reports.routing import build
from mull.reports.routing.build import page, write_report
from mull.reports.routing.figures import histogram, routes_figure
from mull.reports.routing.tables import conclusions, guideline, routes_table, strata_of
from tests.reports.html.test_report import Page

from .conftest import HOSTILE, LAMS, make_result


@pytest.fixture(scope="module")
def written(made, tmp_path_factory):
    """The files of the evaluation; drawing takes seconds, so they are written once."""
    return write_report(*made, tmp_path_factory.mktemp("routes"))


@pytest.fixture(scope="module")
def source(written):
    return written[0].read_text()


def words(text):
    return Page(text).words.replace("\u00a0", " ")


def test_the_page_says_what_was_found_and_what_it_reconstructs(made, source):
    evaluation, result = made
    shown = words(source)
    for line in conclusions(result):
        assert line in shown
    for text in (
        "Does λ per query pay?",
        "our reconstruction of DAMI",
        "leans against the estimators",
        "120 questions × 4",
    ):
        assert text in shown
    for policy in evaluation.policies:
        assert policy.label in shown
    assert shown.index("Does λ per query pay?") < shown.index("λ by difficulty")


def test_the_page_loads_nothing_and_every_figure_has_words(source):
    found = Page(source)
    assert not {tag for tag, _ in found.tags} & {"link", "img", "iframe", "object", "image", "base"}
    assert not re.search(r"url\((?!#)", source)
    pictures = [attributes for tag, attributes in found.tags if tag == "svg"]
    # Three frontiers and two histograms: wide and narrow, light and dark.
    assert len(pictures) == 4 * (3 + 2) and all(a["role"] == "img" and a["aria-label"] for a in pictures)
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {a["href"] for tag, a in found.tags if tag == "a"}
    assert targets <= {f"#{each}" for each in ids} and "#choices" in targets


def test_hostile_text_is_text():
    source = page(*make_result(("sums",), hostile=True, name=HOSTILE, questions=6))
    found = Page(source)
    assert "img" not in {tag for tag, _ in found.tags} and HOSTILE in found.words
    assert not any("onerror" in attributes for _, attributes in found.tags)
    assert "</script><img" not in source


def test_hostile_names_make_no_paths(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "svg", lambda *a, **k: "")
    monkeypatch.setattr(build, "png", lambda *a, **k: b"")
    monkeypatch.setattr(build, "page", lambda *a: "")
    for path in write_report(*make_result(("../../up", "a/b"), questions=6), tmp_path / "out"):
        assert (tmp_path / "out") in path.resolve().parents and "up" not in path.parent.name
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_numbers_of_page_csv_and_table_are_the_same(made, written, source):
    result, folder = made[1], written[0].parent
    assert written[0].name == "route.html" and all(path.is_file() for path in written)
    shown = words(source)
    for found in result.tables:
        rows = {row["policy"]: row for row in csv.DictReader((folder / f"tables/routes-{found.benchmark}.csv").open())}
        assert list(rows) == [row.label for row in found.rows]
        for row in found.rows:
            own = rows[row.label]
            assert float(own["accuracy"]) == pytest.approx(row.accuracy)
            assert float(own["tokens"]) == pytest.approx(row.tokens)
            assert own["gain_low"] == "" if row.gain.alike else float(own["gain_low"]) == pytest.approx(row.gain.low)
            assert f"{100 * row.accuracy:.1f}" in shown and f"{row.tokens:.1f}" in shown
            if row.kind == "estimator":
                low, high = signed(100 * row.gain.low, 1), signed(100 * row.gain.high, 1)
                assert f"{signed(100 * row.gain.difference, 1)} [{low}, {high}]" in shown
        latex = (folder / f"tables/routes-{found.benchmark}.tex").read_text()
        assert f"{100 * found.rows[0].accuracy:.1f}" in latex


def test_words_by_hand(made):
    _, result = made
    lines = conclusions(result)
    for row, line in zip([r for r in result.tables[0].rows if r.kind == "estimator"], lines, strict=False):
        assert line.startswith(f"{row.label}: {signed(100 * row.gain.difference, 1)} points [")
        by_lot = result.tables[0].row(f"random as {row.label}").gain
        assert f"The same λ by lot within each benchmark: {signed(100 * by_lot.difference, 1)} points" in line
    assert lines[-1] == guideline(
        [r for r in result.tables[0].rows if r.kind == "estimator" and "a sure gain" in lines[0] and r.label == "conf"],
        [r for r in result.tables[0].rows if r.kind == "estimator"],
    )


def test_sure_gains_are_said_only_where_they_are():
    # With more questions what `conf` knows becomes sure; what knows nothing never does.
    _, useful = make_result(("sums",), questions=600)
    own = next(line for line in conclusions(useful) if line.startswith("conf:"))
    assert "a sure gain" in own and "costs less than" in own
    weight = break_even(useful.means["sums"]["conf"], [useful.means["sums"][f"{lam:g}"] for lam in LAMS])
    assert f"less than {weight:.2f} generated ones" in own
    assert "is worth it here: conf surely beats" in conclusions(useful)[-1]
    _, useless = make_result(("sums",), questions=600, useless=True)
    assert not any("a sure gain" in line for line in conclusions(useless))
    assert "is not worth it here" in conclusions(useless)[-1]
    assert guideline([], []) == "No estimator was compared."


def test_difficulty_is_by_what_instruct_gets_right(made):
    found = strata_of(made[1])
    assert set(found) == {"conf", "conf-ratio"}
    names = list(found["conf"])
    assert sorted(names) == sorted(f"{b} {s}" for b in ("sums", "words") for s in ("easy", "medium", "hard"))
    assert {name.split()[1] for name in names[:2]} == {"easy"}
    means = {name: sum(lams) / len(lams) for name, lams in found["conf"].items()}
    assert means["sums hard"] > means["sums medium"] > means["sums easy"]
    assert all(len(lams) == 20 for lams in found["conf"].values())
    alone = strata_of(make_result(("sums",), questions=6)[1])
    assert set(alone["conf"]) == {"easy", "medium", "hard"}
    right = dict.fromkeys(alone["conf"], 0)
    _, result = make_result(("sums",), questions=6)
    for sample in result.samples["sums"]:
        right[sample.stratum] += sample.correct and sample.lam == 0
    assert all(right[a] >= right[b] for a, b in pairwise(strata_of(result)["conf"]))


def test_figures_hold_the_numbers(made):
    _, result = made
    figure = routes_figure(result.tables[0]).to_dict()
    points = [row for layer in figure["layer"] for row in layer["data"]["values"]]
    for row in result.tables[0].rows:
        label = row.label.removeprefix("Thinking, ")
        mine = [p for p in points if p["label"] == label]
        assert bool(mine) == (row.kind != "random")
        for point in mine:
            assert point["accuracy"] == pytest.approx(100 * row.accuracy) and point["tokens"] == pytest.approx(
                row.tokens
            )
    shown = histogram({"easy": [0.0, 0.04, 0.96, 1.0], "hard": [1.0]}).to_dict()
    first, second = ([bar["share"] for bar in chart["data"]["values"]] for chart in shown["vconcat"])
    assert first == [50, *[0] * 9, 50] and second == [0] * 10 + [100]


def test_one_benchmark_has_no_section_of_its_own(made):
    _, result = make_result(("sums",), questions=6)
    assert routes_table(result.tables[0]).title == "λ per query on sums" and build._by_benchmark(result) == []
    assert routes_table(made[1].tables[0]).title == "λ per query, all benchmarks"
