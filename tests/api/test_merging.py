"""`merge` writes what the command line writes."""

import json

import pytest

import mull
from mull.api.merging import named, parse_size
from mull.merging.coefficients import Coefficients
from mull.tiny import checkpoint_folder

from ..running import mull as command


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def ends(pair):
    return "--instruct", pair.instruct.folder, "--thinking", pair.thinking.folder


def test_one_lambda_gives_the_bytes_of_the_command(pair, tmp_path):
    made = mull.merge(pair, 0.8, out=tmp_path / "own", quiet=True)
    assert made == tmp_path / "own"
    assert command("merge", *ends(pair), "--lambda", "0.8", "-o", tmp_path / "other").returncode == 0
    for file in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (made / file).read_bytes() == (tmp_path / "other" / file).read_bytes()
    assert "base_model" not in (made / "README.md").read_text() and (made / "README.md").read_text()


def test_several_lambdas_are_written_in_their_order(pair, tmp_path):
    first, second = mull.merge(pair, [1, 0], out=tmp_path / "at-{lambda}", quiet=True)
    assert (first.name, second.name) == ("at-1", "at-0")
    assert weights(first) != weights(second)


def test_rules_and_coefficients_are_the_same_thing(pair, tmp_path):
    by_rule = mull.merge(pair, 0, rules=["layers:0-2 modules:ffn=0.5"], out=tmp_path / "rule", quiet=True)
    only = Coefficients.only(0.5, layers=(0, 2), modules=["ffn"])
    by_object = mull.merge(pair, only, out=tmp_path / "object", quiet=True)
    assert weights(by_rule) == weights(by_object) != weights(pair.instruct.folder)


def test_methods_take_parameters_presets_and_a_base(pair, tmp_path):
    names = [checkpoint_folder("instruct"), checkpoint_folder("thinking")]
    made = mull.merge(
        names, 0.5, base=checkpoint_folder("base"), method="ties", parameters={"density": 0.3},
        out=tmp_path / "ties", quiet=True,
    )  # fmt: skip
    said = json.loads((made / "mull.json").read_text())
    assert said["method"] == "ties" and said["parameters"]["density"] == 0.3
    preset = mull.merge(names, base=names[0], preset="mi-paper:ta", out=tmp_path / "preset", quiet=True)
    assert json.loads((preset / "mull.json").read_text())["method"] == "ta"


def test_many_models_with_weights(tmp_path):
    names = [checkpoint_folder(kind) for kind in ("base", "instruct", "thinking")]
    made = mull.merge(names, weights=[0, 0, 1], out=tmp_path / "three", quiet=True)
    assert weights(made) == weights(names[2])


@pytest.mark.parametrize(
    ("given", "options", "said"),
    [
        (None, {}, "needs a coefficient"),
        (1.3, {}, "lambda must lie in"),
        (0.5, {"metod": "ties"}, "Did you mean 'method'"),
        (0.5, {"method": "tis"}, "ties"),
        (0.5, {"method": "ta", "preset": "mi-paper:ta"}, "Leave method out"),
        (0.5, {"shard_size": "huge"}, "cannot read the shard size"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(pair, tmp_path, given, options, said):
    with pytest.raises(mull.MullError, match=said):
        mull.merge(pair, given, out=tmp_path / "out", quiet=True, **options)
    assert not list(tmp_path.iterdir())


def test_a_merge_that_was_stopped_goes_on(pair, tmp_path, monkeypatch):
    from mull.merging.streaming import stream

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(stream, "verify", stopped)
        with pytest.raises(KeyboardInterrupt):
            mull.merge(pair, 0.5, out=tmp_path / "out", quiet=True)
    assert not (tmp_path / "out").exists() and (tmp_path / ".out.partial").is_dir()
    whole = mull.merge(pair, 0.5, out=tmp_path / "whole", quiet=True)
    assert weights(mull.merge(pair, 0.5, out=tmp_path / "out", quiet=True)) == weights(whole)
    assert not (tmp_path / ".out.partial").exists()


def test_names_and_sizes():
    assert named("a", ["0.5"]) == ["a"] and named("a", ["0", "1"]) == ["a-0", "a-1"]
    assert parse_size("2GiB") == 2 << 30 and parse_size("5 mb") == 5_000_000


def recipe(tmp_path, text):
    (tmp_path / "recipe.yml").write_text(text)
    return tmp_path / "recipe.yml"


SLERP = "merge_method: slerp\nbase_model: {0}\nmodels:\n  - model: {0}\n  - model: {1}\nparameters: {{t: 0.3}}\n"


def test_a_recipe_of_mergekit_is_merged_as_by_the_command(pair, tmp_path):
    config = recipe(tmp_path, SLERP.format(pair.instruct.folder, pair.thinking.folder))
    made = mull.merge(config=config, out=tmp_path / "own", quiet=True)
    assert command("merge", "--config", config, "-o", tmp_path / "other").returncode == 0
    assert {path.name for path in made.iterdir()} == {path.name for path in (tmp_path / "other").iterdir()}
    assert weights(made) == weights(tmp_path / "other")


def test_other_models_stand_in_place_of_the_recipes(pair, tmp_path):
    config = recipe(tmp_path, SLERP.format("no/one", "no/two"))
    given = [
        mull.merge(models, config=config, out=tmp_path / f"own-{i}", quiet=True)
        for i, models in enumerate((pair, [pair.instruct.folder, pair.thinking.folder]))
    ]
    by_hand = mull.merge(pair, 0.3, method="slerp", out=tmp_path / "by-hand", quiet=True)
    assert weights(given[0]) == weights(given[1]) == weights(by_hand)


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        ((), {}, "nothing is named to merge"),
        ((), {"config": "recipe.json"}, "no recipe by its name"),
        (("pair", 0.5), {"config": "recipe.yml", "method": "ties"}, "lam, method and config both say"),
        (("pair",), {"config": "recipe.yml", "base": "x"}, "base and config both say"),
        ((["a", "b", "c"],), {"config": "recipe.yml"}, "merges 2 models, not 3"),
    ],
)
def test_what_a_recipe_does_not_go_with(pair, tmp_path, monkeypatch, arguments, options, said):
    recipe(tmp_path, SLERP.format("no/one", "no/two"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(mull.MullError, match=said):
        mull.merge(*(pair if each == "pair" else each for each in arguments), out="out", quiet=True, **options)
    assert not (tmp_path / "out").exists()
