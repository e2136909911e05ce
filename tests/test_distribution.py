"""`make dist`: the sources, a wheel with the compiled kernels and one without, and what an installed mull can do."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LARGEST = 12 << 20
"""Bytes of a wheel."""
IMPORTED = """
import mull
try:
    from mull.merging import _kernels
except ImportError:
    _kernels = None
print(mull.__file__, _kernels is not None)
"""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not shutil.which("make"), reason="no make")]


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """What `make dist` writes, in a copy of the checkout without what was compiled there."""
    pytest.importorskip("setuptools")
    if not shutil.which("cc"):
        pytest.skip("no compiler")
    copy = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("*.so", "*.egg-info", "__pycache__"))
    for name in ("LICENSE", "MANIFEST.in", "Makefile", "README.md", "pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, copy)
    environment = f"BIN={Path(sys.executable).parent}"  # -o: do not set up another one
    subprocess.run(["make", "-o", ".venv/.ready", "dist", environment], cwd=copy, check=True)
    return copy / "dist"


@pytest.fixture
def wheels(dist):
    """The wheel with kernels and the one without."""
    (compiled,), (pure,) = dist.glob("mull-*-cp311-abi3-*.whl"), dist.glob("mull-*-py3-none-any.whl")
    return {"compiled": compiled, "pure": pure}


def names(wheel):
    """The files of the package in a wheel."""
    return {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("mull/")}


def test_there_are_sources_and_two_small_wheels(dist, wheels):
    (sources,) = dist.glob("*.tar.gz")
    assert set(dist.iterdir()) == {sources, *wheels.values()}
    assert all(path.stat().st_size < LARGEST for path in dist.iterdir())
    with tarfile.open(sources) as packed:
        inside = {name.partition("/")[2] for name in packed.getnames()}
    kernels = ROOT / "src/mull/merging/kernels"
    assert inside >= {path.relative_to(ROOT).as_posix() for path in (*kernels.iterdir(), ROOT / "setup.py")}


def test_the_wheels_have_all_modules_and_data_and_differ_by_the_kernels(wheels):
    folder = ROOT / "src/mull"
    unwanted = {".c", ".h", ".so", ".pyd", ".pyc"}
    files = {path for path in folder.rglob("*") if path.is_file() and path.suffix not in unwanted}
    expected = {path.relative_to(ROOT / "src").as_posix() for path in files}
    assert {"mull/py.typed", "mull/planning/models.json"} < expected
    assert names(wheels["pure"]) == expected
    more = names(wheels["compiled"]) - expected
    assert more - {"mull/checkpoints/_files.abi3.so"} == {"mull/merging/_kernels.abi3.so"}
    assert (len(more) == 2) == (sys.platform == "linux")


@pytest.mark.parametrize("kind", ["compiled", "pure"])
def test_an_installed_wheel_runs_the_demo(wheels, kind, tmp_path):
    """In a new environment with the libraries of this one, outside the checkout."""
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", f"--python={python}"]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", wheels[kind]], check=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "libraries.pth").write_text("\n".join(map(sysconfig.get_path, ("purelib", "platlib"))))
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MULL_"))}

    def run(*command):
        return subprocess.run(command, cwd=tmp_path, env=clean, check=True, capture_output=True, text=True).stdout

    where, kernels = run(python, "-c", IMPORTED).split()
    assert Path(where).is_relative_to(environment) and kernels == str(kind == "compiled")
    run(environment / "bin" / "mull", "demo", "--quick")
    assert (tmp_path / "demo-run-quick" / "run.sqlite").exists()
