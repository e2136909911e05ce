"""The page and the files of the pilot study."""

from __future__ import annotations

import csv
import re

import pytest

from mull.errors import MullError
from mull.reports.geometry.build import write_geometry
from mull.reports.geometry.page import page
from mull.reports.geometry.tables import geometry_tables
from mull.reports.geometry.words import sentences, verdict
from tests.reports.html.test_report import Page


def test_the_page_says_what_was_found_and_what_it_reconstructs(make):
    pilot = make()
    words = Page(page(pilot)).words.replace("\u00a0", " ")
    assert verdict(pilot.study) in words and "Interpolation is supported on this pair" in words
    for sentence in sentences(pilot):
        assert sentence in words
    for text in ("A reconstruction: Yang et al. 2026", "Only their abstract could be read", "Kornblith", "Frankle"):
        assert text in words
    assert "within noise" in words and "supported" in words
    assert words.index("Lowest CKA") < words.index("Interpolation is supported")


def test_the_page_loads_nothing_and_every_figure_has_words(make):
    source = page(make(states=4))
    found = Page(source)
    assert not {tag for tag, _ in found.tags} & {"link", "img", "iframe", "object", "image", "base"}
    assert not re.search(r"url\((?!#)", source)
    pictures = [attributes for tag, attributes in found.tags if tag == "svg"]
    # CKA, cosine, linearity: pair and control; three losses; σ and frontier wide and narrow; light and dark of each.
    assert len(pictures) == 2 * (6 + 3 + 2 + 2) and all(a["role"] == "img" and a["aria-label"] for a in pictures)
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {a["href"] for tag, a in found.tags if tag == "a"}
    files = {f"{table.name}.csv" for table in geometry_tables(make(states=4))}
    assert {target for target in targets if not target.startswith("#")} == files
    assert {target[1:] for target in targets if target.startswith("#")} <= set(ids)


def test_foreign_names_stay_text(make):
    found = Page(page(make(states=3, instruct="<script>alert(1)</script>")))
    assert len(found.scripts) == 2 and "alert(1)" not in found.scripts[1]
    assert "<script>alert(1)</script>" in found.words


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "representations change gradually along λ, without a loss barrier"),
        ({"hump": 0.5}, "but there is a loss barrier"),
        ({"noise": 0.5, "hump": 0.0}, "there is no loss barrier, but representations are not clearly"),
        ({"noise": 0.5, "hump": 3.0}, "Interpolation is not supported on this pair"),
    ],
)
def test_the_verdict_names_each_case(make, options, words):
    pilot = make(states=4, run=False, **options)
    assert words in verdict(pilot.study)
    assert ("has little power" in verdict(pilot.study)) == (options.get("noise") == 0.5)
    assert len(sentences(pilot)) == 3
    barrier = sentences(pilot)[2]
    if options.get("hump"):
        height = pilot.study.pair.barriers["both"].height.value
        assert f"{height:.3f} [" in barrier
    else:
        assert "Loss barrier: none." in barrier


def test_equal_ends_have_no_line_between_them(make):
    pilot = make(states=3, run=False, same=True)
    words = Page(page(pilot)).words
    assert "The ends have the same hidden states (control:" in words and "Largest linearity error –" in words
    assert not any(" nan " in text for text in (words, *sentences(pilot)))


def test_files(make, tmp_path):
    paths = write_geometry(make(states=4), tmp_path / "new" / "out")
    names = [path.name for path in paths]
    assert names[0] == "geometry.html" and sorted(p.name for p in (tmp_path / "new" / "out").iterdir()) == sorted(names)
    rows = list(csv.DictReader((tmp_path / "new" / "out" / "violations.csv").open()))
    assert {row["violation"] for row in rows} == {"tokens fall", "accuracy falls"}
    assert {row["verdict"] for row in rows} == {"supported", "within noise"}
    assert [row["lambdas"] for row in rows if row["violation"] == "tokens fall"] == ["0.5 → 0.7"]
    (tmp_path / "file").write_text("")
    with pytest.raises(MullError, match="cannot make the folder"):
        write_geometry(make(states=3), tmp_path / "file")
