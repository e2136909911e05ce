"""`mull merge --config` and `--export-recipe`, on the built-in pair."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mull.checkpoints.tokenizer_files import TokenizerFiles
from mull.tiny import checkpoint_folder

from ...running import mull

INSTRUCT, THINKING, BASE = (str(checkpoint_folder(kind)) for kind in ("instruct", "thinking", "base"))
PAIR = ("--instruct", INSTRUCT, "--thinking", THINKING)
TIES = f"""
models:
  - model: {INSTRUCT}
    parameters: {{density: 0.4, weight: 1}}
  - model: {THINKING}
    parameters: {{density: 0.6, weight: [0.5, 1]}}
merge_method: ties
base_model: {BASE}
parameters: {{lambda: 0.5, int8_mask: true}}
dtype: bfloat16
"""


def same_files(left: Path, right: Path) -> None:
    names = sorted(path.name for path in left.iterdir())
    assert names == sorted(path.name for path in right.iterdir())
    for name in names:
        assert (left / name).read_bytes() == (right / name).read_bytes(), name


@pytest.mark.parametrize(
    "options",
    [
        (*PAIR, "--lambda", "0.3", "--set", "attention=0.2->0.9", "--set", "layers:0-1,modules:ffn=0.1,0.2"),
        (*PAIR, "--lambda", "0.8", "--donor", "instruct", "--dtype", "float32", "--layers", "2-3"),
        (*PAIR, "--lambda", "1.5", "--extrapolate", "--method", "slerp", "--param", "linear_above=1"),
        (*PAIR, "--base", BASE, "--preset", "mi-paper:ties-base", "--set", "norm=1.2"),
        ("--model", f"{INSTRUCT}=0.25", "--model", f"{THINKING}=0.75", "--donor", "1"),
        ("--model", INSTRUCT, "--model", THINKING, "--base", BASE, "--method", "model_stock", "--donor", "base"),
        ("--model", INSTRUCT, "--model", THINKING, "--base", BASE, "--method", "ties", "--param", "density=0.4,0.6"),
    ],
    ids=["rules", "donor", "beyond", "preset", "weights", "base as donor", "a density each"],
)
def test_a_merge_from_its_own_settings_is_the_same_merge(options: tuple[str, ...], tmp_path: Path) -> None:
    recipe = tmp_path / "new" / "recipe.toml"
    done = mull("merge", *options, "-o", tmp_path / "a" / "out", "--export-recipe", recipe)
    assert done.returncode == 0, done.stderr
    done = mull("merge", "--config", recipe, "-o", tmp_path / "b" / "out")
    assert done.returncode == 0, done.stderr
    same_files(tmp_path / "a" / "out", tmp_path / "b" / "out")


def test_mergekits_recipe_and_the_settings_made_of_it_are_the_same_merge(tmp_path: Path) -> None:
    (tmp_path / "ties.yml").write_text(TIES)
    done = mull(
        "merge", "--config", tmp_path / "ties.yml", "-o", tmp_path / "a" / "out", "--export-recipe", tmp_path / "r.toml"
    )
    assert done.returncode == 0, done.stderr
    assert "int8_mask" in done.stderr and "weights by tensor" in done.stdout and "donor  base" in done.stdout
    assert mull("merge", "--config", tmp_path / "r.toml", "-o", tmp_path / "b" / "out").returncode == 0
    same_files(tmp_path / "a" / "out", tmp_path / "b" / "out")
    manifest = json.loads((tmp_path / "a" / "out" / "mull.json").read_text())
    assert manifest["parameters"]["density"] == [0.4, 0.6] and manifest["donor"] == "base"
    assert manifest["varying"]["weights"][0]["default"] == 1
    assert "varying: " in (tmp_path / "a" / "out" / "README.md").read_text()


def test_an_explanation_has_the_parameters_that_vary(tmp_path: Path) -> None:
    (tmp_path / "ties.yml").write_text(TIES)
    done = mull("merge", "--config", tmp_path / "ties.yml", "-o", tmp_path / "out", "--explain")
    assert done.returncode == 0, done.stderr
    assert "weights, model 1" in done.stdout and "weights, model 2" in done.stdout
    assert not (tmp_path / "out").exists()


def test_a_dry_run_writes_the_recipe_alone(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    done = mull("merge", *PAIR, "--lambda", "0.5", "-o", tmp_path / "out", "--dry-run", "--export-recipe", recipe)
    assert done.returncode == 0 and "no model was written" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.toml"]


@pytest.mark.parametrize(
    ("given", "source", "wanted"),
    [
        ("{{ messages[0].content }}\n", "base", "{{ messages[0].content }}\n"),
        ("auto", THINKING, TokenizerFiles(Path(BASE)).chat_template),  # Instruct's, too
        ("auto", "base", None),
    ],
    ids=["given", "the most frequent one", "the donor's"],
)
def test_the_chat_template_of_a_recipe_is_written(given: str, source: str, wanted: str | None, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yml"
    recipe.write_text(TIES + f"tokenizer_source: {source}\nchat_template: {json.dumps(given)}\n")
    assert mull("merge", "--config", recipe, "-o", tmp_path / "out").returncode == 0
    written = tmp_path / "out" / "chat_template.jinja"
    assert written.exists() == (wanted is not None)
    assert ("| template | from the recipe |" in (tmp_path / "out" / "README.md").read_text()) == written.exists()
    assert TokenizerFiles(tmp_path / "out").chat_template == (wanted or TokenizerFiles(Path(BASE)).chat_template)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--lambda", "0.5"), "--lambda and --config both say how to merge"),
        (PAIR, "--instruct, --thinking and --config"),
        (("--donor", "1"), "--donor and --config"),
    ],
)
def test_an_option_beside_a_recipe_is_refused(options: tuple[str, ...], message: str, tmp_path: Path) -> None:
    (tmp_path / "ties.yml").write_text(TIES)
    done = mull("merge", "--config", tmp_path / "ties.yml", *options, "-o", tmp_path / "out")
    assert done.returncode == 2 and message in done.stderr, done.stderr


def test_several_merges_are_no_recipe(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    done = mull("merge", *PAIR, "--lambda", "0.4,0.6", "-o", tmp_path / "out", "--export-recipe", recipe)
    assert done.returncode == 2 and "--export-recipe writes one merge" in done.stderr
    done = mull("merge", *PAIR, "--lambda", "0.4", "-o", tmp_path / "out", "--export-recipe", tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert list(tmp_path.iterdir()) == []


PAIR_TOML = f'instruct = "{INSTRUCT}"\nthinking = "{THINKING}"\n'
MODELS_TOML = f'[[model]]\nname = "{INSTRUCT}"\n[[model]]\nname = "{THINKING}"\n'
VARYING = '[[varying]]\nparameter = "{}"\ndefault = 0.5\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('method = "mi"\n', "no models"),
        (f'method = "mi"\n{PAIR_TOML}', "coefficients: the table is missing"),
        (f'method = "mi"\n{PAIR_TOML}coeficients = 1\n', "unknown key 'coeficients'"),
        (f'method = "mi"\n{PAIR_TOML}{MODELS_TOML}', "instruct and thinking stand in place of"),
        (f'method = "mi"\n{PAIR_TOML}donor = 1\n', "there is no donor '1'"),
        (f'method = "karcher"\ndonor = 3\n{MODELS_TOML}', "there is no donor '3'"),
        (f'method = "karcher"\n{PAIR_TOML}[coefficients]\ndefault = 1\n', "no coefficient to vary"),
        (f'method = "mi"\n{PAIR_TOML}[coefficients]\ndefault = 1.5\n', "lambda must lie in"),
        (f'method = "tie"\n{PAIR_TOML}', "parameters: unknown method 'tie'"),
        (f'method = "ties"\nbase = "{BASE}"\n{PAIR_TOML}[parameters]\ndens = 1\n', "has no parameter 'dens'"),
        (
            f'method = "ties"\nbase = "{BASE}"\n{PAIR_TOML}{VARYING.format("density")}',
            "density is given for 1 of 2 models",
        ),
        (f'method = "ties"\nbase = "{BASE}"\n{PAIR_TOML}' + 2 * VARYING.format("trim"), "no parameter 'trim' for each"),
        (
            f'method = "ties"\nbase = "{BASE}"\n{PAIR_TOML}[parameters]\ntrim = "model"\n'
            + 2 * VARYING.format("density"),
            "trim model takes one density",
        ),
    ],
)
def test_wrong_settings_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(text)
    done = mull("merge", "--config", tmp_path / "recipe.toml", "-o", tmp_path / "out")
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr, done.stderr
