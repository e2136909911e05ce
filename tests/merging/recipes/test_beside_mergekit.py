"""The same recipes, run by mergekit 0.1.5 and by mull. See tests/merging/methods/test_mergekit.py on how to run it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

from .conftest import CASES, merged, with_folders

pytestmark = pytest.mark.mergekit
EXACT = [name for name, case in CASES.items() if case.exact]


@pytest.fixture(scope="module")
def theirs(
    mergekit: Callable[[Path], None], folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Tensor]]:
    root = tmp_path_factory.mktemp("theirs")
    for name in EXACT:
        (root / f"{name}.yml").write_text(with_folders(CASES[name].text, folders))
    mergekit(root)
    return {name: load_file(next((root / name).glob("*.safetensors"))) for name in EXACT}


def test_there_are_twenty() -> None:
    assert len(EXACT) >= 20


@pytest.mark.parametrize("name", EXACT)
def test_the_same_to_rounding(
    name: str, theirs: dict[str, dict[str, Tensor]], recipe: Callable[..., Path], tmp_path: Path
) -> None:
    got, _ = merged(recipe(CASES[name].text), tmp_path / "out")
    assert got.keys() == theirs[name].keys()
    for key, tensor in got.items():
        assert (tensor - theirs[name][key]).abs().max() <= 2e-5, key  # mergekit computes in float32
