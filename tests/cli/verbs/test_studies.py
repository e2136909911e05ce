"""`mull ablate` and `mull compare` on the built-in pair: settings, continuation, wrong input."""

import pytest

from mull.cli.verbs.ablate import read_ranges
from mull.errors import MullError
from mull.runs.store import RunStore
from mull.tiny import checkpoint_folder

from ...running import mull

PAIR = ("--instruct", checkpoint_folder("instruct"), "--thinking", checkpoint_folder("thinking"))
SMALL = ("-k", "1", "--questions", "7", "--max-tokens", "300")


def test_layers_are_sampled_once_and_compared_with_all(tmp_path):
    command = ("ablate", "layers", *PAIR, *SMALL, "--ranges", "0-2,3-5", "--run", tmp_path / "run")
    done = mull(*command)
    assert done.returncode == 0, done.stderr
    assert "less all layers" in done.stdout
    with RunStore.open(tmp_path / "run") as store:
        assert list(store.plan["settings"]) == ["all layers", "layers 0-2", "layers 3-5"]
        assert store.count() == 21
    again = mull(*command)
    assert again.returncode == 0 and "is complete" in again.stderr


def test_compare_puts_methods_beside_lambdas(tmp_path):
    base = ("--base", checkpoint_folder("base"))
    done = mull("compare", *PAIR, *base, *SMALL, "--lambdas", "0.5,1", "--run", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    for setting in ("slerp 0.5", "ta-base", "ties-base", "dare-base", "less 1"):
        assert setting in done.stdout
    report = mull("report", tmp_path / "run")
    assert report.returncode == 0, report.stderr
    assert "ties-base" in (tmp_path / "run" / "report" / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("layers", "--ranges", "0-99"), "reach beyond the model"),
        (("layers", "--ranges", "a-b"), "cannot read the ranges"),
        (("layers", "--lambda", "1.5"), "lambda must lie in [0, 1]"),
        (("modules", "--ranges", "0-1"), "--ranges belongs to mull ablate layers"),
        (("backbone",), "no other backbone is named"),
        (("backbone", "--backbone", "base"), "cannot read the backbone 'base'"),
        (("backbone", "--backbone", "thinking=x"), "cannot be called 'thinking'"),
        (("decoding", "--top-ps", "much"), "cannot read the numbers"),
        (("decoding", "--top-ps", "2"), "top_p must lie in (0, 1]"),
    ],
)
def test_wrong_input_is_one_sentence(tmp_path, arguments, message):
    done = mull("ablate", *arguments[:1], *PAIR, *SMALL, "--run", tmp_path / "run", *arguments[1:])
    assert done.returncode == 2, done.stdout
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_ranges():
    assert read_ranges("0-11, 12-23,7") == [(0, 11), (12, 23), (7, 7)]
    with pytest.raises(MullError):
        read_ranges("")
