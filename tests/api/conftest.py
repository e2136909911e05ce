"""One small run of the built-in pair, shared by the tests that read it."""

import pytest

import mull

SMALL = {"questions": 6, "k": 2, "lambdas": [0, 0.6, 1], "max_tokens": 160, "device": "cpu", "quiet": True}


@pytest.fixture(scope="session")
def pair():
    return mull.Pair.built_in()


@pytest.fixture(scope="session")
def run(pair, tmp_path_factory):
    return mull.sweep(pair, out=tmp_path_factory.mktemp("api") / "run", **SMALL)
