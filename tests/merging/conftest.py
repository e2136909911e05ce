from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mull.checkpoints.pair import Pair
from mull.merging.coefficients import Coefficients
from mull.merging.streaming.plan import MergePlan, plan_merge

MERGEKIT = "0.1.5"
RUN_MERGEKIT = """
import sys
from pathlib import Path
from mergekit.scripts.run_yaml import main
for config in sorted(Path(sys.argv[1]).glob("*.[jy]*")):
    options = ["--no-copy-tokenizer", "--no-write-model-card", "--random-seed", "1"]
    main([str(config), str(config.with_suffix("")), *options], standalone_mode=False)
"""


@pytest.fixture
def planned(two_sides: Callable) -> Callable[..., MergePlan]:
    """A plan at λ for the pair that `two_sides` writes with the given options."""

    def make(lam: float | Coefficients = 0.8, *, donor: Any = "thinking", **options: Any) -> MergePlan:
        own = {key: options.pop(key) for key in ("instruct", "thinking") if key in options}
        pair = Pair.open(*map(str, two_sides(**own)), donor=donor)
        pair.check()
        return plan_merge(pair, lam if isinstance(lam, Coefficients) else Coefficients.scalar(lam), **options)

    return make


@pytest.fixture(scope="session")
def digests() -> Callable[[Path], dict[str, str]]:
    """File name → SHA-256 of a folder's files."""

    def read(folder: Path) -> dict[str, str]:
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}

    return read


@pytest.fixture(scope="session")
def mergekit(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], None]:
    """Runs mergekit on every recipe in a folder, in one process: importing it takes longer than all of them.

    MULL_MERGEKIT names a Python that has it; otherwise it is installed into an environment of its own.
    """
    python = os.environ.get("MULL_MERGEKIT")
    if not python:
        folder = tmp_path_factory.mktemp("mergekit")
        venv.create(folder, with_pip=True)
        python = str(folder / ("Scripts" if sys.platform == "win32" else "bin") / "python")
        subprocess.run([python, "-m", "pip", "install", "-q", f"mergekit=={MERGEKIT}"], check=True)

    def run(recipes: Path) -> None:
        done = subprocess.run([python, "-c", RUN_MERGEKIT, str(recipes)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]

    return run
