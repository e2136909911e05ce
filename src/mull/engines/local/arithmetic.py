"""The name of an engine's arithmetic, found without torch. Runs with different names cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path

from mull.errors import MullError

_UNROUNDED = "unrounded/"


def arithmetic(
    folder: Path, kind: str, dtype: str | None = None, *, unrounded: bool = False, engine: str = "local"
) -> str:
    """The arithmetic of an `engine` with the donor `folder` on a device of `kind` (cpu, cuda): "local/<dtype>/<kind>".

    `dtype` None: float32 on CPU, else that of the checkpoint. `unrounded`: the weights of Θ(λ) are not rounded as a
    merged checkpoint's are; "local/unrounded/<dtype>/<kind>". Two runs with different arithmetic do not give the same
    text. Raises `MullError` for a folder without a readable config.json.
    """
    prefix = f"{engine}/{_UNROUNDED if unrounded else ''}"
    if dtype is not None or kind == "cpu":
        return f"{prefix}{dtype or 'float32'}/{kind}"
    return f"{prefix}{checkpoint_dtype(folder)}/{kind}"


def checkpoint_dtype(folder: Path) -> str:
    """The dtype of a checkpoint's weights, as its config says; bfloat16 if it does not.

    Raises `MullError` for a folder without a readable config.json.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MullError(f"{folder / 'config.json'} cannot be read: {error}", "Give a checkpoint's folder") from error
    return (config.get("dtype") or config.get("torch_dtype") or "bfloat16").removeprefix("torch.")


def is_unrounded(name: str) -> bool:
    """Whether the engine of this name has a λ per row, with weights that are not rounded."""
    return name.partition("/")[2].startswith(_UNROUNDED)
