"""`mull --quiet` and `mull --verbose`: what standard error has, and that the library itself says nothing."""

import logging
import subprocess
import sys

import pytest

from mull.cli.rendering.logs import LOGGER
from mull.tiny import checkpoint_folder

from ...running import mull

INSTRUCT, THINKING = checkpoint_folder("instruct"), checkpoint_folder("thinking")
PAIR = ("--instruct", INSTRUCT, "--thinking", THINKING)
DRY = ("--questions", "2", "-k", "1", "--lambdas", "0,1", "--dry-run")


@pytest.fixture(autouse=True)
def as_it_was():
    handlers, level = LOGGER.handlers, LOGGER.level
    yield
    LOGGER.handlers = handlers
    LOGGER.setLevel(level)


def test_quiet_leaves_results_alone(tmp_path):
    usual = mull("sweep", *PAIR, *DRY, "--run", tmp_path / "run")
    quiet = mull("--quiet", "sweep", *PAIR, *DRY, "--run", tmp_path / "run")
    assert "warning different chat templates" in usual.stderr and "donor of template" in usual.stderr
    assert quiet.returncode == 0 and quiet.stderr == ""
    assert quiet.stdout.splitlines()[:2] == usual.stdout.splitlines()[:2]  # below it stands how much memory is free


def test_quiet_does_not_hide_errors(tmp_path):
    wrong = mull("--quiet", "merge", *PAIR, "--lambda", "2", "-o", tmp_path / "out")
    assert wrong.returncode == 2 and wrong.stderr.startswith("mull: lambda must lie in")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    refused = mull("-q", "inspect", tmp_path, THINKING)
    assert refused.returncode == 1 and "refused" in refused.stderr and "pickled weights" in refused.stderr


def test_verbose_says_what_is_opened_and_with_which_kernels(tmp_path):
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    done = mull("--verbose", "merge", *PAIR, "--lambda", "0.5", "-o", tmp_path / "out")
    assert done.returncode == 0
    assert f"mull.checkpoints.checkpoint: opened {INSTRUCT}: weights in 1 file" in done.stderr
    assert "mull.merging.streaming.stream: mi: " in done.stderr and "kernels" in done.stderr
    assert (root.level, root.handlers) == before
    usual = mull("merge", *PAIR, "--lambda", "0.5", "-o", tmp_path / "other")
    assert "opened" not in usual.stderr and "warning" in usual.stderr


def test_a_line_is_shown_once_however_often_the_command_ran(tmp_path):
    for _ in range(2):
        done = mull("--verbose", "inspect", INSTRUCT, THINKING, "--no-sigma")
    assert done.stderr.count(f"opened {INSTRUCT}") == 1


def test_both_at_once_contradict_each_other():
    done = mull("--quiet", "--verbose", "methods")
    assert (
        done.returncode == 2
        and done.stderr == "mull: --quiet and --verbose contradict each other. Give one of the two\n"
    )


def test_the_library_prints_nothing_by_itself():
    """Its logger has a handler that does nothing, and the root logger is the application's own."""
    code = (
        "import logging, mull; logging.getLogger('mull.x').warning('unseen');"
        "print([type(each).__name__ for each in logging.getLogger('mull').handlers], logging.getLogger().handlers)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("['NullHandler'] []\n", "")
