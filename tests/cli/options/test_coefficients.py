"""Coefficients from options, and their explanation as a user sees it."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from mull.cli.options.coefficients import read_coefficients
from mull.cli.rendering.coefficients import print_explanation
from mull.errors import MullError
from mull.merging.coefficients import Coefficients, Rule

NAMES = [
    "model.embed_tokens.weight",
    *(f"model.layers.{i}.{part}.weight" for i in range(3) for part in ("mlp.up_proj", "self_attn.q_proj")),
]


def test_flags_come_after_the_rest(tmp_path: Path) -> None:
    assert read_coefficients(0.8) == Coefficients.scalar(0.8)
    assert read_coefficients(0.8, layers="0-1", modules="ffn", rules=["7=1"]) == Coefficients(
        0.0, (Rule(0.8, (0, 1), ("ffn",)), Rule(1, (7, 7)))
    )
    file = tmp_path / "c.toml"
    file.write_text("default = 0.5\n[[rule]]\nlambda = 0.6\nlayers = 2\n")
    assert read_coefficients(None, file=file, rules=["ffn=1.5"], extrapolate=True) == Coefficients(
        0.5, (Rule(0.6, (2, 2)), Rule(1.5, modules=("ffn",))), extrapolate=True
    )


def test_options_that_exclude_each_other() -> None:
    with pytest.raises(MullError, match="Pass --lambda"):
        read_coefficients(None, rules=["ffn=1"])
    with pytest.raises(MullError, match="--layers and --coefficients"):
        read_coefficients(None, layers="0-1", file=Path("c.toml"))


def test_an_explanation_names_rules_and_warns_of_those_without_effect() -> None:
    coefficients = read_coefficients(0.5, rules=["0-1=0.1", "name:*.layers.[01].*=0.2", "2=0.2->0.3"])
    out, err = (Console(file=StringIO(), width=120) for _ in range(2))
    print_explanation(coefficients, NAMES, out, err)
    lines = [" ".join(line.split()) for line in out.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert lines[0] == "λ decided by tensors layers kinds"
    assert lines[2:] == [
        "0.5 default 1 outside embedding",
        "0.2 rule 2: name:*.layers.[01].*=0.2 4 0-1 attention, ffn",
        "0.2 rule 3: layers:2=0.2->0.3 2 2 attention, ffn",
    ]
    assert err.file.getvalue() == (  # type: ignore[attr-defined]
        "warning rule 1 (layers:0-1=0.1) decides nothing: later rules match all its parameters"
        " → drop it, or write it below them\n"
    )
