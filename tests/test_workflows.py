"""The workflow that builds wheels: what actionlint accepts, for three systems, by means that exist."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
WHEELS = ROOT / ".github/workflows/wheels.yml"


@pytest.mark.skipif(not shutil.which("actionlint"), reason="no actionlint")
def test_actionlint_accepts_it():
    found = subprocess.run(["actionlint", WHEELS], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_every_system_installs_a_wheel_and_runs_the_demo():
    jobs = yaml.safe_load(WHEELS.read_text())["jobs"]
    tried = {}
    for name, job in jobs.items():
        if "mull demo --quick" in str(job["steps"]):
            tried[name] = {system.partition("-")[0] for system in job["strategy"]["matrix"]["os"]}
    assert tried == {"compiled": {"ubuntu", "macos"}, "try-pure": {"ubuntu", "macos", "windows"}}
    setup = (ROOT / "setup.py").read_text()
    assert "MULL_KERNELS=yes" in str(jobs["compiled"]) and "'MULL_KERNELS': 'no'" in str(jobs["pure"])
    assert '("", "yes", "no")' in setup
