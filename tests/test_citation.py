"""CITATION.cff says how to cite mull, as pyproject.toml describes it, and the article that its method is from."""

import tomllib
from pathlib import Path

import yaml

from mull import __version__

ROOT = Path(__file__).parent.parent
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())
TYPES = {"article", "book", "conference-paper", "generic", "report", "software", "unpublished"}


def test_it_has_what_the_format_requires():
    """Version 1.2.0 of the Citation File Format."""
    assert CITATION["cff-version"] == "1.2.0" and CITATION["type"] in {"software", "dataset"}
    for work in (CITATION, *CITATION["references"]):
        assert work["title"] and work["authors"] and work["type"] in TYPES
        for author in work["authors"]:
            assert set(author) in ({"name"}, {"family-names", "given-names"}) and all(author.values())
    assert CITATION["message"] and all(isinstance(word, str) for word in CITATION["keywords"])
    assert isinstance(CITATION["version"], str)


def test_it_says_what_the_package_says():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__
    said = (CITATION["title"], CITATION["version"], CITATION["license"], CITATION["abstract"])
    assert said == (project["name"], project["version"], project["license"], project["description"])


def test_it_names_the_article_of_the_method():
    (article,) = CITATION["references"]
    assert article["url"] == "https://arxiv.org/abs/2510.10977"
    assert article["authors"][0]["family-names"] == "Wu" and article["year"] == 2025
    assert article["url"] in (ROOT / "README.md").read_text()
