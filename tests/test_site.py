"""docs/ as a site: every page is in it, built strictly, and the reference has every public name."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import mull

ROOT = Path(__file__).parent.parent
MKDOCS = os.environ.get("MKDOCS") or next(filter(Path.exists, [ROOT / ".venv-site/bin/mkdocs"]), shutil.which("mkdocs"))


@pytest.mark.skipif(not MKDOCS, reason="no mkdocs: make .venv-site/.ready, or MKDOCS=/path/to/mkdocs")
def test_it_is_built_strictly_with_every_page_and_name(tmp_path):
    command = [MKDOCS, "build", "--strict", "--config-file", ROOT / "mkdocs.yml", "--site-dir", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")}
    assert {path.parent.name for path in tmp_path.glob("*/index.html")} | {"index"} == pages
    reference = (tmp_path / "api" / "index.html").read_text()
    assert all(f'id="{found.__module__}.{found.__name__}"' in reference for found in public().values())


def test_navigation_has_every_page_and_the_reference_every_name():
    named = set(re.findall(r"([\w-]+)\.md$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    assert named == {page.stem for page in (ROOT / "docs").glob("*.md")}
    listed = re.findall(r"^::: (\S+)$", (ROOT / "docs/api.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(f"{found.__module__}.{found.__name__}" for found in public().values())


def public():
    """What `mull` offers by name."""
    return {name: getattr(mull, name) for name in mull.__all__}
