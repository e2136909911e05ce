"""What no recipe may say is refused with the file's name, the key and a remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mull.errors import MullError
from mull.merging.recipes import read_recipe
from mull.merging.recipes.yaml import read_yaml

from .conftest import HALF, layered, merged, models, of_task

TWO = models("weight: 1", "weight: 2")
LINEAR = TWO + "merge_method: linear\n"


def stacked(*ranges: tuple[str, int, int]) -> str:
    lines = [f"  - sources: [{{model: {name}, layer_range: [{first}, {end}]}}]" for name, first, end in ranges]
    return "\n".join(["slices:", *lines, "merge_method: linear", "parameters: {weight: 1}", ""])


WRONG = {
    "an unknown key": (LINEAR + "merge_metod: ties\n", "unknown key 'merge_metod'.*Did you mean 'merge_method'"),
    "a key of another tool": (LINEAR + "base: ONE\n", "unknown key 'base'.*'base_model'"),
    "an unknown key of a model": (LINEAR.replace("parameters:", "parameter:"), "unknown key 'parameter'.*'parameters'"),
    "an unknown parameter": (LINEAR + "parameters: {normalise: true}\n", "parameter 'normalise'.*'normalize'"),
    "an unknown key of a filter": (
        LINEAR.replace("weight: 1", "weight: [{pattern: mlp, value: 1}]"),
        "one: parameter weight: .*'pattern'.*'filter'",
    ),
    "a filter without value": (LINEAR.replace("weight: 1", "weight: [{filter: mlp}]"), "a filter without value"),
    "a number among filters": (LINEAR.replace("weight: 1", "weight: [{value: 1}, 2]"), "2 stands among filters"),
    "a filter that is no text": (LINEAR.replace("weight: 1", "weight: {filter: 1, value: 2}"), "filter must be a text"),
    "no filter fits": (
        LINEAR.replace("weight: 1", "weight: [{filter: mlp, value: 1}]"), "no weight of .*one for lm_head.weight"
    ),
    "no weight": (models("weight: 1", "") + "merge_method: linear\n", "no weight of .*two for lm_head.weight"),
    "a text for a number": (LINEAR.replace("weight: 1", "weight: heavy"), "parameter weight: it cannot be 'heavy'"),
    "true for a number": (LINEAR.replace("weight: 1", "weight: true"), "parameter weight: it cannot be True"),
    "no number": (LINEAR.replace("weight: 1", "weight: .nan"), "parameter weight: it cannot be nan"),
    "an empty list": (LINEAR.replace("weight: 1", "weight: []"), "parameter weight: an empty list"),
    "a number for a flag": (LINEAR + "parameters: {normalize: 0.5}\n", "normalize: it cannot be 0.5.*true or false"),
    "a list for a text": (LINEAR + "dtype: [float32]\n", "dtype must be a text"),
    "models as text": ("models: ONE\nmerge_method: linear\n", "models must be an array"),
    "no method": (TWO, "merge_method is missing"),
    "an unknown method": (TWO + "merge_method: tie\n", "unknown merge_method 'tie'.*'ties'"),
    "passthrough": (TWO + "merge_method: passthrough\n", "no method passthrough"),
    "another method": (TWO + "merge_method: breadcrumbs_ties\n", "no method breadcrumbs_ties"),
    "a mixture of experts": ("base_model: ONE\nexperts:\n  - source_model: TWO\n", "mixture of experts"),
    "a place for the model": (LINEAR + "out_path: ./here\n", "out_path says where"),
    "modules": ("modules: {text: {models: []}}\nmerge_method: linear\n", "modules merges the parts"),
    "no models": ("merge_method: linear\n", "either models or slices"),
    "a model twice": (models("", "", folders=("ONE", "ONE")) + "merge_method: linear\n", "is named twice"),
    "one model": (models("weight: 1") + "merge_method: linear\n", "1 model for linear"),
    "an adapter": (LINEAR.replace("model: ONE", "model: ONE+lora"), "adds an adapter"),
    "a missing model": (LINEAR.replace("model: TWO", "model: ./nowhere"), "nowhere"),
    "ties without base": (TWO + "merge_method: ties\n", "ties without base_model"),
    "ties of one": (models(HALF) + "merge_method: ties\nbase_model: BASE\n", "1 model besides the base for ties"),
    "slerp without base": (TWO + "merge_method: slerp\nparameters: {t: 1}\n", "slerp without base_model"),
    "slerp of three": (models("", "", "") + "merge_method: slerp\nbase_model: ONE\n", "3 models for slerp"),
    "slerp without t": (TWO + "merge_method: slerp\nbase_model: ONE\n", "there is no t for lm_head.weight"),
    "union": (LINEAR + "tokenizer_source: union\n", "union joins vocabularies"),
    "a tokenizer without source": (LINEAR + "tokenizer: {pad_to_multiple_of: 8}\n", "pad_to_multiple_of changes"),
    "another tokenizer": (LINEAR + "tokenizer_source: THREE\n", "none of the models"),
    "a named template": (LINEAR + "chat_template: chatml\n", "'chatml' is one of mergekit's own"),
    "unlike layers": (
        layered({(0, 5): ""}, "").replace("[0, 5]", "[0, 4]", 1), "slice 1: different layers of the models"
    ),
    "other models in each slice": (stacked(("ONE", 0, 3), ("TWO", 2, 5)), "frankenmerge"),
    "layers twice": (layered({(0, 3): "t: 1", (2, 5): "t: 1"}, ""), "not the whole model in order"),
    "layers left out": (layered({(0, 3): "t: 1", (4, 5): "t: 1"}, ""), "not the whole model in order"),
    "the last layers left out": (layered({(0, 4): "t: 1"}, ""), "slices of 4 of the 5 layers"),
    "too many layers": (layered({(0, 6): "t: 1"}, ""), "not the whole model in order"),
    "an empty slice": (layered({(2, 2): "t: 1"}, ""), "layer_range cannot be"),
    "weights that cancel out": (models("weight: 1", "weight: -1") + "merge_method: linear\n", "the weights sum to 0"),
    "weights as they are": (LINEAR + "parameters: {normalize: false}\n", "the weights sum to 3 without normalize"),
    "rows of columns": (
        TWO + "merge_method: nuslerp\nparameters: {nuslerp_flatten: false, nuslerp_row_wise: true}\n",
        "nuslerp_row_wise",
    ),
    "model stock by filters": (of_task("model_stock", "", "", top="filter_wise: true"), "filter_wise"),
    "sizes made what they were": (of_task("ties", HALF, HALF, top="rescale: true"), "rescale makes"),
    "della as it is": (of_task("della", HALF, HALF, top="rescale: false"), "della without rescale"),
    "a flag by filters": (
        of_task("ties", HALF, HALF, top="normalize: [{filter: mlp, value: true}, {value: false}]"),
        "normalize differs between tensors",
    ),
    "too wide an epsilon": (of_task("della", "weight: 1, density: 0.95", HALF), "leaves"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_recipe_is_refused_by_name(name: str, recipe: Callable[..., Path], tmp_path: Path) -> None:
    text, message = WRONG[name]
    path = recipe(text)
    with pytest.raises(MullError, match=f"(?s){message}") as error:
        merged(path, tmp_path / "out")
    assert error.value.remedy
    assert str(path) in error.value.what or name == "a missing model"


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGED = "a: &a {k: v}\n" + "".join(
    f"{new}: &{new} {{<<: [{', '.join([f'*{old}'] * 10)}]}}\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
DAMAGED = {
    "a python object": ("merge_method: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
    "a python name": ("merge_method: !!python/name:os.system ''\n", "could not determine a constructor"),
    "a bomb of aliases": (BOMB, "more than 100,000 entries"),
    "a bomb of merge keys": (MERGED, "more than 100,000 entries"),
    "an alias of itself": ("a: &a [*a]\n", "stands for nothing complete"),
    "an unknown alias": ("a: *b\n", "stands for nothing complete"),
    "deep nesting": ("a: " + "[" * 5000 + "]" * 5000, "nested more than 20 deep"),
    "many entries": ("a: [" + "1, " * 120_000 + "]", "more than 100,000 entries"),
    "a large file": ("a: " + "x" * (1 << 20), "more than 1,048,576 bytes"),
    "a key twice": ("merge_method: ties\nmerge_method: linear\n", "merge_method is given twice in line 2"),
    "a key that is no text": ("1: ties\n", "a key in line 1 is no text"),
    "two documents": ("a: b\n---\nc: d\n", "2 documents in one file"),
    "a list": ("- a\n", "no mapping of keys"),
    "nothing": ("", "no mapping of keys"),
    "no YAML": ("a: [1, 2\nb: }", "no YAML file: .* in line"),
    "a tab": ("a:\n\t- b\n", "no YAML file"),
    "no date": ("a: 2024-13-45\n", "no YAML file"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_no_plain_data_of_sensible_size_is_refused(name: str, tmp_path: Path) -> None:
    text, message = DAMAGED[name]
    path = tmp_path / "recipe.yml"
    path.write_text(text)
    with pytest.raises(MullError, match=message) as error:
        read_recipe(path)
    assert error.value.what.startswith(str(path)) and error.value.remedy


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yml"
    path.write_bytes(b"a: \xff\xfe\n")
    with pytest.raises(MullError, match="not UTF-8"):
        read_recipe(path)
    with pytest.raises(MullError, match="cannot read"):
        read_recipe(tmp_path / "none.yml")
    with pytest.raises(MullError, match="no recipe by its name"):
        read_recipe(tmp_path / "recipe.json")


def test_honest_aliases_are_values(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yml"
    path.write_text("one: &p {weight: 1, density: 0.5}\ntwo: *p\nthree: {<<: *p, weight: 2}\nnone:\n")
    assert read_yaml(path) == {
        "one": {"weight": 1, "density": 0.5}, "two": {"weight": 1, "density": 0.5},
        "three": {"weight": 2, "density": 0.5},
    }  # fmt: skip
