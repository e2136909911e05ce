"""`make clean` leaves a checkout as it was fetched: nothing that a set-up, a demo, a test or a build has made."""

import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parent.parent / "Makefile"
KEPT = {
    "Makefile",
    "src/mull/merging/kernels/combine.c",
    "src/mull/merging/stream.py",
    "tests/test_x.py",
    "perf/x.py",
    "training/x.py",
}
MADE = (
    ".venv/.ready", ".venv-site/.ready",
    "demo-run/run.sqlite", "demo-run-quick/run.sqlite", "build/lib/x.py", "dist/mull.whl",
    ".hypothesis/x", ".pytest_cache/x", ".ruff_cache/x", "src/mull.egg-info/PKG-INFO", "mull.egg-info/PKG-INFO",
    "src/mull/merging/_kernels.abi3.so", "src/mull/merging/_kernels.cpython-312-x86_64-linux-gnu.so",
    "src/mull/__pycache__/x.pyc", "tests/__pycache__/x.pyc", "training/__pycache__/x.pyc",
)  # fmt: skip


@pytest.mark.skipif(not shutil.which("make"), reason="no make")
def test_make_clean_removes_what_was_made_and_nothing_else(tmp_path):
    shutil.copy(MAKEFILE, tmp_path)
    for name in (*KEPT - {"Makefile"}, *MADE):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True)
    assert {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()} == KEPT
    assert not any(
        (tmp_path / name.split("/")[0]).exists() for name in MADE if not name.startswith(("src", "tests", "training"))
    )
