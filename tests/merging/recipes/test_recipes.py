"""Recipes of mergekit's kind give what the methods' second implementation makes of them, tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from mull.merging.recipes import format_settings

from ..methods import test_second_implementation as second
from .conftest import CASES, merged


@pytest.mark.parametrize("name", CASES)
def test_a_recipe_means_what_its_formula_says(
    name: str, folders: dict[str, Path], recipe: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    got, _ = merged(recipe(case.text), tmp_path / "out")
    sides = {side: load_file(folder / "model.safetensors") for side, folder in folders.items()}
    assert got.keys() == sides["BASE"].keys()
    for key, tensor in got.items():
        monkeypatch.setattr(second, "NAME", key)  # on which the random numbers of DARE and DELLA depend
        method, at, parameters = case.wanted(key)
        models = [second.decode(sides[side][key]) for side in case.models]
        base = second.decode(sides["BASE"][key]) if case.base else None
        wanted = second.REFERENCES[method](models, base, at, **parameters)
        assert np.abs(second.decode(tensor) - wanted).max() <= 1e-6, key


@pytest.mark.parametrize("name", CASES)
def test_settings_written_as_toml_are_read_as_the_same_settings(
    name: str, recipe: Callable[..., Path], tmp_path: Path
) -> None:
    first, settings = merged(recipe(CASES[name].text), tmp_path / "out")
    again, same = merged(recipe(format_settings(settings), "own.toml"), tmp_path / "again")
    assert (same.sources, same.method, same.coefficients, same.varying, same.dtype) == (
        settings.sources, settings.method, settings.coefficients, settings.varying, settings.dtype,
    )  # fmt: skip
    assert all(first[key].equal(again[key]) for key in first)
    first_manifest, second_manifest = ((tmp_path / out / "mull.json").read_text() for out in ("out", "again"))
    assert first_manifest == second_manifest
