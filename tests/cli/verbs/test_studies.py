"""`mull ablate` and `mull compare` on the built-in pair: settings, continuation, wrong input."""

import pytest

from mull.cli.options.merging import read_row
from mull.cli.verbs.ablate import read_ranges
from mull.errors import MullError
from mull.merging.methods import METHODS
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


def test_compare_takes_every_method_with_its_parameters(tmp_path):
    named = [f"{name}:lambda=0.5" if kind.coefficient == "lambda" else name for name, kind in METHODS.items()]
    named[named.index("ties")] = "ties:density=0.2,0.4,alpha=0.5,normalize=no"
    options = [word for text in named for word in ("--method", text)]
    small = ("-k", "1", "--questions", "1", "--max-tokens", "4", "--lambdas", "1", "--base", checkpoint_folder("base"))
    done = mull("compare", *PAIR, *small, *options, "--run", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    with RunStore.open(tmp_path / "run") as store:
        settings, count = store.plan["settings"], store.count()
    assert [record.get("method", "mi") for record in settings.values()] == ["mi", *METHODS]
    assert count == len(settings) and "slerp 0.5" not in settings
    ties = settings["ties:alpha=0.5,density=0.2,0.4,normalize=no"]
    assert ties["parameters"]["density"] == [0.2, 0.4] and ties["parameters"]["normalize"] is False
    assert ties["coefficients"]["default"] == 0.5 and ties["base"] == "base"


@pytest.mark.parametrize(
    "text", ["ties:density=0.2", "ties:base=hybrid", "nuslerp:lambda=0.5,base=base", "mi:weights=0.3,0.7", "karcher"]
)
def test_the_label_of_a_method_names_the_same_again(text):
    row = read_row(text, ["base", "hybrid"])
    assert read_row(row.label, ["base", "hybrid"]) == row
    assert read_row(text, ["base", "hybrid"]).recipe.base == ("hybrid" if "hybrid" in text else row.recipe.base)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tis", "did you mean 'ties'?"),
        ("ties:densety=0.2", "no parameter 'densety'"),
        ("ties:density=2", "density must lie in (0, 1]"),
        ("ties:density=0.2,density=0.4", "given twice"),
        ("ties:0.2", "NAME:parameter=value"),
        ("ties:density=0.2,0.3,0.4", "give one density for each model"),
        ("ties:lambda=0.5", "takes no lambda"),
        ("slerp", "needs a λ"),
        ("slerp:lambda=1.5", "lambda must lie in [0, 1]"),
        ("slerp:lambda=half", "'half' is no number"),
        ("karcher:base=base", "no use for a base"),
        ("ties:base=hybrid", "it is base"),
    ],
)
def test_a_wrong_method_is_one_sentence_before_any_checkpoint_is_opened(tmp_path, text, message):
    ends = ("--instruct", "no/checkpoint", "--thinking", "no/checkpoint", "--base", "no/checkpoint")
    done = mull("compare", *ends, "--method", text, "--run", tmp_path / "run")
    assert done.returncode == 2 and message.lower() in done.stderr.lower(), done.stderr
    assert f"--method {text}" in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_method_that_needs_a_base_says_which_options_give_one(tmp_path):
    done = mull("compare", *PAIR, "--method", "ties", "--run", tmp_path / "run")
    assert done.returncode == 2 and "the method ties needs a base. Give --base or --hybrid" in done.stderr


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
