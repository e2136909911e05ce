"""The name of a local engine's arithmetic, found without torch. Runs with different names cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path

from mull.errors import MullError


def arithmetic(folder: Path, kind: str, dtype: str | None = None) -> str:
    """The arithmetic of an engine with the donor `folder` on a device of `kind` (cpu, cuda): "local/<dtype>/<kind>".

    `dtype` None: float32 on CPU, else that of the checkpoint.
    Two runs with different arithmetic do not give the same text. Raises `MullError` for a folder without a readable
    config.json.
    """
    if dtype is not None or kind == "cpu":
        return f"local/{dtype or 'float32'}/{kind}"
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MullError(f"{folder / 'config.json'} cannot be read: {error}", "Give a checkpoint's folder") from error
    name = config.get("dtype") or config.get("torch_dtype") or "bfloat16"
    return f"local/{name.removeprefix('torch.')}/{kind}"
